"""Second moments of a layer's inputs: what turns an error of the weight into an error of the output."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from q2.errors import CalibrationError

__all__ = ["LONGEST", "Gram", "Piece", "pieces", "places"]

LONGEST = 8192
"""Inputs whose moments are kept as a whole; those of longer rows are kept in blocks of input channels."""

_DAMPING, _ROWS = 0.01, 1024


@dataclass(frozen=True, eq=False)
class Gram:
    """H = sum of x x^T over the inputs of one image, with the inputs in the order in which codes are chosen.

    `order` (n,) has inputs by falling H_jj; `matrix` (n, n) float32 is H in that order, with `damping` added to its
    diagonal; `factor` (n, n) float32 the upper Cholesky factor of its inverse. Where all inputs are zero, H is the
    identity and `live` is False.
    """

    order: Tensor
    matrix: Tensor
    factor: Tensor
    damping: float
    live: bool

    @classmethod
    def of(cls, rows: Tensor, scale: float) -> "Gram":
        """Return the moments of rows (N, n), any float dtype, times `scale`.

        The diagonal is damped by a hundredth of its mean, by more where there are fewer rows than inputs. Raises
        `CalibrationError` for NaN or infinity.
        """
        count, size = rows.shape
        moments = torch.zeros(size, size, dtype=torch.float64, device=rows.device)
        for part in rows.split(_ROWS):  # sums of float32 over few rows at a time, those in float64
            moments += (part.float().T @ part.float()).double()
        return cls.of_moments(moments, count, scale)

    @classmethod
    def of_moments(cls, moments: Tensor, count: int, scale: float) -> "Gram":
        """Return the same from `moments`, the sum of x x^T over `count` rows, (n, n) float64.

        Raises `CalibrationError` if they are not finite.
        """
        size = len(moments)
        diagonal = moments.diagonal().clone()
        mean = float(diagonal.mean()) * scale
        if not mean < torch.inf:
            raise CalibrationError("the inputs' second moments are not finite")
        order = torch.argsort(diagonal, descending=True, stable=True)
        live = mean > torch.finfo(torch.float32).smallest_normal
        if not live:
            identity = torch.eye(size, device=moments.device)
            return cls(order, identity, identity, 0.0, live)
        damping = _DAMPING * max(1.0, size / count) * mean
        moments = moments[order][:, order].mul_(scale)
        moments.diagonal().add_(damping)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
        factor = torch.linalg.cholesky(inverse, upper=True)
        return cls(order, moments.float().contiguous(), factor.float().contiguous(), damping, live)

    @property
    def importance(self) -> Tensor:
        """The damped H_jj of every input, (n,) float64, in the weight's order."""
        found = torch.empty(len(self.order), dtype=torch.float64, device=self.order.device)
        found[self.order] = self.matrix.diagonal().double()
        return found


@dataclass(frozen=True, eq=False)
class Piece:
    """The part of a weight that one set of moments is about: of a group of output channels, some of its inputs."""

    group: int
    inputs: slice
    gram: Gram


def pieces(rows: Tensor, shape: Sequence[int], scale: float, channels: tuple[int, int] | None = None) -> list[Piece]:
    """Return the moments that belong to a weight of `shape` (O, I / groups, *kernel), piece by piece.

    `rows` (N, I * kernel positions) are inputs of the whole layer; `channels` is the range of input channels of a split
    layer's part, whose own `shape` is given then. A grouped convolution has a piece for every group, a weight with long
    rows one for every block of input channels.

    >>> [(piece.group, piece.gram.matrix.shape) for piece in pieces(torch.ones(4, 6), (4, 3), 0.5)]
    [(0, torch.Size([3, 3])), (1, torch.Size([3, 3]))]
    """
    found = places(rows.shape[1], shape, channels)
    return [Piece(group, inputs, Gram.of(rows[:, columns], scale)) for group, inputs, columns in found]


def places(width: int, shape: Sequence[int], channels: tuple[int, int] | None = None) -> list[tuple[int, slice, slice]]:
    """Return the pieces of a weight of `shape`, see `pieces`: group, slice of inputs, and slice of a row of `width`.

    Raises `CalibrationError` for rows that do not fit the weight.

    >>> places(6, (4, 3))
    [(0, slice(0, 3, None), slice(0, 3, None)), (1, slice(0, 3, None), slice(3, 6, None))]
    """
    outputs, inputs, *kernel = shape
    positions = int(torch.Size(kernel).numel())
    start, stop = (channels[0] * positions, channels[1] * positions) if channels else (0, width)
    size = inputs * positions
    if (stop - start) % size or outputs % ((stop - start) // size):
        raise CalibrationError(f"rows of {stop - start} inputs do not fit a weight of shape {tuple(shape)}")
    return [
        (group, part, slice(start + group * size + part.start, start + group * size + part.stop))
        for group in range((stop - start) // size)
        for part in _blocks(inputs, positions)
    ]


def _blocks(channels: int, positions: int) -> Iterator[slice]:
    """Yield slices of flattened inputs, of whole channels, as even as may be and none longer than `LONGEST`."""
    count = min(channels, -(-channels * positions // LONGEST))
    bounds = [channels * i // count * positions for i in range(count + 1)]
    yield from map(slice, bounds, bounds[1:])
