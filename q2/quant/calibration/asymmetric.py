"""Targets for a layer whose inputs are quantized layers' outputs: what it should put out is full precision's output.

Source: GPTAQ (Li et al., "Efficient Finetuning-Free Quantization for Asymmetric Calibration", ICML'25).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from q2.quant.calibration.gram import Gram, Piece, places
from q2.quant.calibration.problem import Problem

__all__ = ["Asymmetric"]

_DAMPING = 0.1


@dataclass(frozen=True, eq=False)
class Asymmetric:
    """The moments of a layer's inputs z, and of how far these are from the inputs x of full precision.

    For every piece of the weight `pieces` has H = sum of z z^T, and `drifts` (n, n) float64 the sum of (x - z) z^T in
    the weight's order, both as means over rows.
    """

    pieces: Sequence[Piece]
    drifts: Sequence[Tensor]

    @classmethod
    def of(
        cls, rows: Iterable[tuple[Tensor, Tensor]], shape: Sequence[int], channels: tuple[int, int] | None = None
    ) -> "Asymmetric":
        """Sum over pairs of rows (N, inputs) of x and z, for a weight of `shape` as in `pieces`.

        Nothing but the sums is kept. Raises `CalibrationError` for NaN or infinity, and for rows of another length.
        """
        found: list[tuple[int, slice, slice]] = []
        sums: list[tuple[Tensor, Tensor]] = []
        count = 0
        for exact, mine in rows:
            if not found:
                found = places(mine.shape[1], shape, channels)
                sizes = [columns.stop - columns.start for *_, columns in found]
                zeros = [torch.zeros(size, size, dtype=torch.float64, device=mine.device) for size in sizes]
                sums = [(zero, zero.clone()) for zero in zeros]
            count += len(mine)
            for (*_, columns), (moments, drift) in zip(found, sums, strict=True):
                own = mine[:, columns].float()
                moments.add_(own.T @ own)
                if exact is not mine:
                    drift.add_((exact[:, columns].float() - own).T @ own)
        parts = [
            Piece(group, inputs, Gram.of_moments(moments, count, 1 / count))
            for (group, inputs, _), (moments, _) in zip(found, sums, strict=True)
        ]
        return cls(parts, [drift.div_(count) for _, drift in sums])

    def problem(self, weight: Tensor) -> Problem:
        """Return the problem of least ||W x - W' z||^2 for a weight W (O, I, ...).

        It is that of least output error for inputs z and the weight W + W D (H + aI)^-1, where D is the drift. The
        damping a, a tenth of H's mean diagonal, keeps that near W where rows say little.
        """
        target = weight.flatten(1).float().clone()
        each = len(target) // (1 + max(piece.group for piece in self.pieces))
        for piece, drift in zip(self.pieces, self.drifts, strict=True):
            if not drift.any():
                continue
            gram, outputs = piece.gram, slice(piece.group * each, (piece.group + 1) * each)
            moments = gram.matrix.double()
            moments.diagonal().add_(_DAMPING * float(moments.diagonal().mean()))
            factor = torch.linalg.cholesky(moments)
            moved = drift[:, gram.order]
            step = torch.cholesky_solve(moved.T, factor).T  # D (H + aI)^-1, its columns in the piece's order
            change = target[outputs, piece.inputs].double() @ step
            part = target[outputs, piece.inputs]
            part[:, gram.order] = part[:, gram.order] + change.float()
        return Problem(target, self.pieces)
