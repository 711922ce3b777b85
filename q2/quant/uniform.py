"""The quantizer ``uaq``: evenly spaced levels per output channel, with a scale and a zero point."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from q2.quant.base import Encoded, Quantizer, cast_to, parameter_dtype
from q2.quant.chunks import each_chunk
from q2.quant.lattice import Format, exact_levels

__all__ = ["Uaq"]

_FACTORS = tuple(1 - i / 100 for i in range(0, 91, 10))  # the reference's grid: the floor of the search
_STEPS = (0.05, 0.025, 0.0125)


class Uaq(Quantizer):
    """Uniform asymmetric quantization: x' = scale * (code - zero), for every output channel.

    Parameters: ``scale`` (C,), and ``zero`` (C,), an integer that may lie outside the codes. The search minimizes the
    channel's sum of |x - x'|^2.4 over scales as they are stored. It holds the ten candidates of Qua2SeDiMo, stored
    likewise, so that its error is never above theirs, and halves the step around the best of them three times. A
    channel whose values lie on few enough even levels, a constant one say, is exact as far as the levels can be stored.

    >>> fitted = Uaq().fit(torch.tensor([[0.0, 1.0, 3.0], [5.0, 5.0, 5.0]]), 2)
    >>> fitted.mse, fitted.parameters["scale"].tolist(), fitted.parameters["zero"].tolist()
    (0.0, [1.0, 5.0], [0, 0])
    """

    name: ClassVar[str] = "uaq"

    def encode(self, weight: Tensor, bits: int, prec: int) -> Encoded:
        """Search scale and zero point of every channel, a chunk of channels at a time."""
        rows = weight.flatten(1)
        top, limit = 2**bits - 1, 2**15 - 1 if prec == 16 else 2**21
        form = Format(top, weight.dtype, parameter_dtype(prec, _largest_scale(rows, top, limit)), limit)
        scale = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
        zero = torch.empty_like(scale)
        codes = torch.empty(rows.shape, dtype=torch.uint8, device=rows.device)

        def search(part: slice) -> None:
            found = _Search(rows[part].float(), form)
            scale[part], zero[part] = found.best()
            steps = _steps(found.rows, scale[part, None], zero[part, None], form.top)
            codes[part] = steps.add_(zero[part, None]).to(torch.uint8)

        each_chunk(rows, search)
        whole = torch.int16 if prec == 16 else torch.int32
        return Encoded(codes.reshape(weight.shape), {"scale": scale.to(form.stored), "zero": zero.to(whole)})

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return scale * (code - zero) in float32."""
        each = (-1, *(1,) * (codes.ndim - 1))
        return (codes.float() - parameters["zero"].float().view(each)).mul_(parameters["scale"].float().view(each))

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of one scale and one zero point for each output channel.

        >>> Uaq().overhead_bits((8, 4), 3)
        256
        """
        return 2 * prec * shape[0]


def _largest_scale(rows: Tensor, top: int, limit: int) -> float:
    low, high = rows.amin(1).double(), rows.amax(1).double()
    width, middle = (high - low) / top, (low + high).abs() / 2
    return float(torch.where(width * limit > middle, width, middle).max())


def _steps(rows: Tensor, scale: Tensor, zero: Tensor, top: int) -> Tensor:
    """Return code - zero: how many scales each value becomes. Adding 1.5 * 2^23 rounds, half to even.

    `Tensor.round` would wait for torch's threads at every call, however small the tensor.
    """
    return torch.clamp(rows / scale, -zero, top - zero).add_(12582912.0).sub_(12582912.0)


class _Search:
    """The best scale and zero point so far of some channels: `rows` is (c, n) float32, everything else (c,)."""

    def __init__(self, rows: Tensor, form: Format) -> None:
        self.rows, self.form = rows, form
        self.low, self.high = rows.amin(1).double(), rows.amax(1).double()
        middle = (self.low + self.high) / 2
        # A single level at the middle: all there is for a constant channel, and for one too far from zero for a grid.
        self.scale = self._stored(torch.where(middle == 0, 1.0, middle.abs()))
        self.zero = (middle < 0).float()
        self.factor = torch.ones_like(self.low)
        self.error = self._error(self.scale, self.zero)

    def best(self) -> tuple[Tensor, Tensor]:
        """Return scale and zero point of every channel, both float32 and as stored."""
        width = (self.high - self.low) / self.form.top
        wide = width > 0
        offset = torch.where(wide, -self.low / torch.where(wide, width, 1.0), 0.0)
        offset = offset.clamp(-self.form.limit, self.form.limit)
        for factor in _FACTORS:
            for zero in (offset.floor(), offset.ceil()):
                self._try(width, torch.full_like(width, factor), zero.float())
        for step in _STEPS:
            for change in (-step, step):
                self._try(width, self.factor + change, self.zero)
        solved, scale, zero = exact_levels(self.rows, self.form)
        if not bool(solved.any()):
            return self.scale, self.zero
        exact = solved & (self._error(scale, zero) == 0)
        return torch.where(exact, scale, self.scale), torch.where(exact, zero, self.zero)

    def _try(self, width: Tensor, factor: Tensor, zero: Tensor) -> None:
        scale = self._stored(width * factor)
        error = self._error(scale, zero)
        better = error < self.error
        self.scale = torch.where(better, scale, self.scale)
        self.zero = torch.where(better, zero, self.zero)
        self.factor = torch.where(better, factor, self.factor)
        self.error = torch.where(better, error, self.error)

    def _stored(self, scale: Tensor) -> Tensor:
        info = torch.finfo(self.form.stored)
        least = math.ldexp(info.smallest_normal, round(math.log2(info.eps)))  # the smallest subnormal
        return scale.clamp(least, info.max).to(self.form.stored).float()

    def _error(self, scale: Tensor, zero: Tensor) -> Tensor:
        """Return the sum of |x - x'|^2.4 per channel, float64, for the values as the layer will hold them."""
        steps = _steps(self.rows, scale[:, None], zero[:, None], self.form.top)
        values = cast_to(steps.mul_(scale[:, None]), self.form.dtype)
        return values.float().sub_(self.rows).abs_().double().pow_(2.4).sum(1)
