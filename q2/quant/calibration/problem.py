"""One weight as a problem of least output error: its codes, and the levels that they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from q2.quant.calibration.gram import Gram, Piece
from q2.quant.calibration.normal import Normal
from q2.quant.calibration.on_device import compensate_block, descend_block, normal_block

__all__ = ["Problem"]

_BLOCK, _TILE = 128, 128
Codes = list[Tensor]


@dataclass(frozen=True, eq=False)
class _Rows:
    """A piece with its part of the weight, (outputs, n) float32, the columns in the order in which codes are chosen."""

    piece: Piece
    weight: Tensor

    @property
    def gram(self) -> Gram:
        return self.piece.gram

    @cached_property
    def pulled(self) -> Tensor:
        """W H."""
        return self.weight @ self.gram.matrix

    def error(self, pull: Tensor, difference: Tensor) -> Tensor:
        """Return the output error of every channel, (outputs,) float64, of W - W' and of that times the damped H."""
        exact = pull.double().addcmul_(difference.double(), torch.tensor(-self.gram.damping, dtype=torch.float64))
        return (exact * difference).sum(1).clamp_(min=0) * self.gram.live

    def levels(self, levels: Tensor) -> Tensor:
        """Return the levels of these outputs: (outputs or 1, k)."""
        return levels if len(levels) == 1 else levels[self.piece.outputs]


class Problem:
    """A weight (O, n), float32, and the moments of its inputs: tr((W - W') H (W - W')^T) is what is made small.

    Levels are (O or 1, k), float32 and ascending; codes are uint8, a tensor for each piece, in the piece's order.
    """

    def __init__(self, weight: Tensor, pieces: Sequence[Piece]) -> None:
        """Put the columns of every piece in order."""
        self.outputs, self.inputs = weight.shape
        self._rows = [
            _Rows(piece, weight[piece.outputs, piece.inputs][:, piece.gram.order].contiguous()) for piece in pieces
        ]

    @property
    def importance(self) -> Tensor:
        """What an error of a weight alone costs: (O, n) float64, expanded where all channels have the same."""
        found = torch.empty(self.outputs, self.inputs, dtype=torch.float64)
        for rows in self._rows:
            found[rows.piece.outputs, rows.piece.inputs] = rows.gram.importance.cpu()
        return found

    def compensated(self, levels: Tensor) -> Codes:
        """Return codes that make good, column by column, what those before them lost."""
        found = []
        for rows in self._rows:
            left, factor = rows.weight.clone(), rows.gram.factor
            codes = torch.zeros(left.shape, dtype=torch.uint8, device=left.device)
            own = rows.levels(levels)
            for start, stop in _blocks(left.shape[1]):
                errors = compensate_block(left, factor, own, (start, stop), codes)
                left[:, stop:].addmm_(errors, factor[start:stop, stop:], alpha=-1)
            found.append(codes)
        return found

    def descended(self, levels: Tensor, codes: Codes) -> tuple[Codes, Tensor]:
        """Return better codes, each weight in turn given the best level, and the output error of every channel."""
        found, errors = [], torch.zeros(self.outputs, dtype=torch.float64, device=levels.device)
        for rows, mine in zip(self._rows, codes, strict=True):
            new, own, matrix = mine.clone(), rows.levels(levels), rows.gram.matrix
            pull = rows.pulled.addmm(_looked_up(own, mine), matrix, alpha=-1)
            for start, stop in _blocks(pull.shape[1]):
                moved = descend_block(pull, matrix, own, (start, stop), new)
                pull[:, :start].addmm_(moved, matrix[start:stop, :start], alpha=-1)
                pull[:, stop:].addmm_(moved, matrix[start:stop, stop:], alpha=-1)
            found.append(new)
            errors[rows.piece.outputs] += rows.error(pull, rows.weight - _looked_up(own, new))
        return found, errors

    def normal(self, codes: Codes, k: int) -> Normal:
        """Return the normal equations of the levels that `codes` stand for."""

        def made(part: slice) -> tuple[Tensor, Tensor]:
            count = part.stop - part.start
            device = codes[0].device
            curvature = torch.zeros(count, k, k, dtype=torch.float64, device=device)
            pull = torch.zeros(count, k, dtype=torch.float64, device=device)
            for rows, mine in zip(self._rows, codes, strict=True):
                outputs = rows.piece.outputs
                start, stop = max(part.start, outputs.start), min(part.stop, outputs.stop)
                if start < stop:
                    here, there = slice(start - outputs.start, stop - outputs.start), slice(start, stop)
                    into = slice(there.start - part.start, there.stop - part.start)
                    normal_block(rows.gram.matrix, mine[here], _TILE, curvature[into])
                    pull[into].scatter_add_(1, mine[here].long(), rows.pulled[here].double())
            return curvature, pull

        return Normal(self.outputs, k, made)

    def errors(self, values: Tensor) -> Tensor:
        """Return the output error of every channel, (O,) float64, of values (O, n): an image's sum of squares."""
        parts = [values[rows.piece.outputs, rows.piece.inputs][:, rows.gram.order] for rows in self._rows]
        return self._sums([rows.weight - mine for rows, mine in zip(self._rows, parts, strict=True)])

    @property
    def signal(self) -> float:
        """The outputs' sum of squares, of an image, without the bias."""
        return float(self._sums([rows.weight for rows in self._rows]).sum())

    def given(self, codes: Codes) -> Tensor:
        """Return the codes of this problem in the weight's order, (O, n)."""
        found = torch.empty(self.outputs, self.inputs, dtype=torch.uint8, device=codes[0].device)
        for rows, mine in zip(self._rows, codes, strict=True):
            part = found[rows.piece.outputs, rows.piece.inputs]
            part[:, rows.gram.order] = mine
        return found

    def _sums(self, differences: Sequence[Tensor]) -> Tensor:
        sums = torch.zeros(self.outputs, dtype=torch.float64, device=differences[0].device)
        for rows, each in zip(self._rows, differences, strict=True):
            sums[rows.piece.outputs] += rows.error(each @ rows.gram.matrix, each)
        return sums


def _blocks(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + _BLOCK, size)) for start in range(0, size, _BLOCK)]


def _looked_up(levels: Tensor, codes: Tensor) -> Tensor:
    if len(levels) == 1:
        return levels[0][codes.int()]
    return levels.gather(1, codes.long())
