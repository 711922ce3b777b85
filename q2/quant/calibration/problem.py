"""One weight as a problem of least output error: its codes, and the levels that they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from q2.errors import CalibrationError
from q2.quant.calibration.gram import Gram, Piece
from q2.quant.calibration.normal import Normal
from q2.quant.calibration.on_device import compensate, descend, normal_block

__all__ = ["Problem"]

Codes = list[Tensor]


@dataclass(frozen=True, eq=False)
class _Rows:
    """A piece with its part of the weight, (outputs, n) float32, the columns in the order in which codes are chosen."""

    outputs: slice
    inputs: slice
    gram: Gram
    weight: Tensor

    @cached_property
    def pulled(self) -> Tensor:
        """W H."""
        return self.weight @ self.gram.matrix

    def error(self, pull: Tensor, difference: Tensor) -> Tensor:
        """Return the output error of every channel, (outputs,) float64, of W - W' and of that times the damped H."""
        exact = torch.add(pull, difference, alpha=-self.gram.damping).mul_(difference)
        return exact.sum(1, dtype=torch.float64).clamp_(min=0) * self.gram.live

    def levels(self, levels: Tensor) -> Tensor:
        """Return the levels of these outputs: (outputs or 1, k)."""
        return levels if len(levels) == 1 else levels[self.outputs]


class Problem:
    """A weight (O, n), float32, and the moments of its inputs: tr((W - W') H (W - W')^T) is what is made small.

    Levels are (O or 1, k), float32 and ascending; codes are uint8, a tensor for each piece, in the piece's order.
    """

    def __init__(self, weight: Tensor, pieces: Sequence[Piece]) -> None:
        """Put the columns of every piece in order. Raises `CalibrationError` for a weight that has not their shape."""
        self.weight = weight
        self.outputs, self.inputs = weight.shape
        groups = 1 + max(piece.group for piece in pieces)
        if self.outputs % groups or self.inputs != max(piece.inputs.stop for piece in pieces):
            raise CalibrationError(f"inputs in {groups} groups do not fit a weight of shape {tuple(weight.shape)}")
        each = self.outputs // groups
        places = [slice(piece.group * each, (piece.group + 1) * each) for piece in pieces]
        self._rows = [
            _Rows(outputs, piece.inputs, piece.gram, weight[outputs, piece.inputs][:, piece.gram.order].contiguous())
            for outputs, piece in zip(places, pieces, strict=True)
        ]

    @property
    def importance(self) -> Tensor:
        """What an error of a weight alone costs: (O, n) float64, on the CPU."""
        found = torch.empty(self.outputs, self.inputs, dtype=torch.float64)
        for rows in self._rows:
            found[rows.outputs, rows.inputs] = rows.gram.importance.cpu()
        return found

    def compensated(self, levels: Tensor) -> Codes:
        """Return codes that make good, column by column, what those before them lost."""
        return [compensate(rows.weight, rows.gram.factor, rows.levels(levels)) for rows in self._rows]

    def descended(self, levels: Tensor, codes: Codes) -> tuple[Codes, Tensor]:
        """Return better codes, each weight in turn given the best level, and the output error of every channel."""
        found, errors = [], torch.zeros(self.outputs, dtype=torch.float64, device=levels.device)
        for rows, mine in zip(self._rows, codes, strict=True):
            new, own, matrix = mine.clone(), rows.levels(levels), rows.gram.matrix
            pull = rows.pulled.addmm(_looked_up(own, mine), matrix, alpha=-1)
            descend(pull, matrix, own, new)
            found.append(new)
            errors[rows.outputs] += rows.error(pull, rows.weight - _looked_up(own, new))
        return found, errors

    def normal(self, codes: Codes, k: int) -> Normal:
        """Return the normal equations of the levels that `codes` stand for."""

        def made(part: slice) -> tuple[Tensor, Tensor]:
            count = part.stop - part.start
            device = codes[0].device
            curvature = torch.zeros(count, k, k, dtype=torch.float64, device=device)
            pull = torch.zeros(count, k, dtype=torch.float64, device=device)
            for rows, mine in zip(self._rows, codes, strict=True):
                outputs = rows.outputs
                start, stop = max(part.start, outputs.start), min(part.stop, outputs.stop)
                if start < stop:
                    here, there = slice(start - outputs.start, stop - outputs.start), slice(start, stop)
                    into = slice(there.start - part.start, there.stop - part.start)
                    normal_block(rows.gram.matrix, mine[here], curvature[into])
                    pull[into].scatter_add_(1, mine[here].long(), rows.pulled[here].double())
            return curvature, pull

        return Normal(self.outputs, k, made)

    def errors(self, values: Tensor) -> Tensor:
        """Return the output error of every channel, (O,) float64, of values (O, n): an image's sum of squares."""
        parts = [values[rows.outputs, rows.inputs][:, rows.gram.order] for rows in self._rows]
        return self._sums([rows.weight - mine for rows, mine in zip(self._rows, parts, strict=True)])

    @property
    def signal(self) -> float:
        """The outputs' sum of squares, of an image, without the bias."""
        return float(self._sums([rows.weight for rows in self._rows]).sum())

    def given(self, codes: Codes) -> Tensor:
        """Return the codes of this problem in the weight's order, (O, n)."""
        found = torch.empty(self.outputs, self.inputs, dtype=torch.uint8, device=codes[0].device)
        for rows, mine in zip(self._rows, codes, strict=True):
            part = found[rows.outputs, rows.inputs]
            part[:, rows.gram.order] = mine
        return found

    def _sums(self, differences: Sequence[Tensor]) -> Tensor:
        sums = torch.zeros(self.outputs, dtype=torch.float64, device=differences[0].device)
        for rows, each in zip(self._rows, differences, strict=True):
            sums[rows.outputs] += rows.error(each @ rows.gram.matrix, each)
        return sums


def _looked_up(levels: Tensor, codes: Tensor) -> Tensor:
    if len(levels) == 1:
        return levels[0][codes.int()]
    return levels.gather(1, codes.long())
