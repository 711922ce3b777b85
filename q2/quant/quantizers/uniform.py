"""The quantizer ``uaq``: evenly spaced levels per output channel, with a scale and a zero point."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from q2.quant.base import Quantizer
from q2.quant.calibration.normal import Normal
from q2.quant.dtypes import cast_to, parameter_dtype
from q2.quant.kernels.chunks import in_blocks, over_chunks
from q2.quant.kernels.fused import Kind
from q2.quant.kernels.lattice import Format, exact_levels, likely_rows
from q2.quant.kernels.monge import Form
from q2.quant.kernels.optimal import form_of
from q2.quant.kernels.scales import requantize, search_rows

__all__ = ["Uaq", "snap"]

Levels = tuple[
    Tensor, Tensor, Tensor, Tensor
]  # of every channel: scale, zero point, and (code - zero + shift) * factor

_LARGEST = torch.finfo(torch.float32).max


class Uaq(Quantizer):
    """Uniform asymmetric quantization: x' = scale * (code - zero), for every output channel.

    Parameters: ``scale`` (C,), and ``zero`` (C,), an integer that may lie outside the codes. The search minimizes the
    channel's sum of |x - x'|^2.4 over scales as they are stored. It holds the ten candidates of Qua2SeDiMo, stored
    likewise, so that its error is never above theirs, and halves the step around the best of them three times. Then it
    tries the same with zero points that follow from the scale as it is stored: far from zero, rounding the scale moves
    the levels by whole steps. Every channel is searched in units of its own largest value. A channel whose values lie
    on few enough even levels, a constant one say, is exact as far as the levels can be stored.

    >>> fitted = Uaq().fit(torch.tensor([[0.0, 1.0, 3.0], [5.0, 5.0, 5.0]]), 2)
    >>> fitted.mse, fitted.parameters["scale"].tolist(), fitted.parameters["zero"].tolist()
    (0.0, [1.0, 5.0], [0, 0])
    """

    name: ClassVar[str] = "uaq"
    per_channel: ClassVar[tuple[str, ...] | None] = ("scale", "zero")
    code: ClassVar[Kind] = "levels"

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Search scale and zero point of every channel."""
        rows = weight.flatten(1).float().cpu().contiguous()
        top, limit = 2**bits - 1, 2**15 - 1 if prec == 16 else 2**21
        stored = parameter_dtype(prec, _largest_scale(rows, top, limit))
        info = torch.finfo(stored)
        least = info.smallest_normal * info.eps
        forms = _within(weight.dtype, 24), _within(stored, 53)
        scale, zero = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        values = rows.numpy()
        in_blocks(
            lambda part: search_rows(values[part], top, limit, *forms, least, info.max, scale[part], zero[part]),
            len(rows),
        )
        likely = likely_rows(rows, top + 1)
        if len(likely):
            found, its_scale, its_zero = exact_levels(rows[likely], Format(top, weight.dtype, stored, limit))
            solved = likely[found].numpy()
            scale[solved], zero[solved] = its_scale[found].numpy(), its_zero[found].numpy()
        whole = torch.int16 if prec == 16 else torch.int32
        parameters = {"scale": torch.from_numpy(scale).to(stored), "zero": torch.from_numpy(zero).to(whole)}
        return {name: parameter.to(weight.device) for name, parameter in parameters.items()}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the nearest level of every value."""
        scale, zero = parameters["scale"].float(), parameters["zero"].float()
        return _requantized(weight, (scale, zero, zero, torch.ones_like(scale)), bits, torch.uint8)

    def restore(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int, out: Tensor | None = None) -> Tensor:
        """Return the nearest levels' values."""
        scale, zero = parameters["scale"].float(), parameters["zero"].float()
        return _requantized(weight, (scale, zero, torch.zeros_like(scale), scale), bits, weight.dtype, out)

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return scale * (code - zero) in float32."""
        each = (-1, *(1,) * (codes.ndim - 1))
        return (
            (codes.float() - parameters["zero"].float().view(each))
            .mul_(parameters["scale"].float().view(each))
            .clamp_(-_LARGEST, _LARGEST)
        )

    def levels(self, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the levels of every channel."""
        codes = torch.arange(2**bits, device=parameters["scale"].device)
        return self.decode(codes.expand(len(parameters["scale"]), -1), parameters)

    def refit(self, normal: Normal, parameters: Mapping[str, Tensor], bits: int) -> Mapping[str, Tensor]:
        """Return the best scale and zero point of every channel: of the integers around the best zero the better."""
        scale, zero = parameters["scale"].clone(), parameters["zero"].clone()
        limit = 2**15 - 1 if zero.dtype == torch.int16 else 2**21
        codes = torch.arange(2**bits, dtype=torch.float64, device=scale.device)
        for part, curvature, pull in normal.each():
            found = _least_squares(curvature, pull, codes, zero[part].double(), limit)
            best = found[0] > 0
            held = found[0].clamp(max=torch.finfo(scale.dtype).max).to(scale.dtype)
            scale[part] = torch.where(best & (held > 0), held, scale[part])
            zero[part] = torch.where(best & (held > 0), found[1].to(zero.dtype), zero[part])
        return {"scale": scale, "zero": zero}

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of one scale and one zero point for each output channel.

        >>> Uaq().overhead_bits((8, 4), 3)
        256
        """
        return 2 * prec * shape[0]


def _least_squares(curvature: Tensor, pull: Tensor, codes: Tensor, zero: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Return scales and whole zero points (R,): the levels scale * (code - zero) with the least error."""
    curved = curvature @ codes
    twice, once, none = curved @ codes, curved.sum(1), curvature.sum((1, 2))
    along, across = pull @ codes, pull.sum(1)
    middle = (across * twice - along * once) / (across * once - along * none)  # where scale * zero is free
    middle = torch.where(middle.isfinite(), middle, zero)
    scales, gains, zeros = [], [], []
    for each in (middle.floor(), middle.ceil(), zero):
        whole = each.clamp(-limit, limit)
        reach, size = along - whole * across, twice - 2 * whole * once + whole**2 * none
        scales.append(torch.where(size > 0, reach / size, torch.zeros_like(size)))
        gains.append(torch.where(scales[-1] > 0, reach * scales[-1], -torch.ones_like(size)))
        zeros.append(whole)
    best = torch.stack(gains).argmax(0, keepdim=True)
    return torch.stack(scales).gather(0, best)[0], torch.stack(zeros).gather(0, best)[0]


def _largest_scale(rows: Tensor, top: int, limit: int) -> float:
    low, high = rows.amin(1).double(), rows.amax(1).double()
    width, middle = (high - low) / top, (low + high).abs() / 2
    return float(torch.where(width * limit > middle, width, middle).max())


def _within(dtype: torch.dtype, mantissa: int) -> Form:
    """Return what rounds to `dtype` by arithmetic of so many bits of `mantissa`."""
    form = form_of(dtype)
    eps = torch.finfo(dtype).eps
    adder = torch.finfo(dtype).smallest_normal * eps * 1.5 * 2.0 ** (mantissa - 1)
    return Form(form.rounds, 0.0, eps * 2.0 ** (mantissa - 1) + 1.0, form.normal, adder)


def snap(weight: Tensor, levels: Levels, top: int) -> Tensor:
    """Run `requantize` on any device: return codes or values in float32, in the shape of `weight` (C, ...).

    >>> ones, zeros = torch.ones(1), torch.zeros(1)
    >>> snap(torch.tensor([[0.2, 0.9, 7.0]]), (ones, zeros, zeros, ones), 3)
    tensor([[0., 1., 3.]])
    """
    scale, zero, shift, factor = (part.view(-1, *(1,) * (weight.ndim - 1)) for part in levels)
    steps = torch.clamp((weight.float() / scale).round_(), -zero, top - zero)
    return steps.add_(shift).mul_(factor).clamp_(-_LARGEST, _LARGEST)


def _requantized(weight: Tensor, levels: Levels, bits: int, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    top = 2**bits - 1
    if weight.device.type != "cpu":
        return cast_to(snap(weight, levels, top), dtype)
    scale, zero, shift, factor = (part.numpy() for part in levels)
    largest = torch.finfo(dtype).max if dtype.is_floating_point else float(top)

    def work(rows: Tensor, part: slice) -> Tensor:
        found = np.empty(rows.shape, np.float32)
        requantize(rows.numpy(), scale[part], zero[part], top, shift[part], factor[part], largest, found)
        return torch.from_numpy(found)

    return over_chunks(weight, dtype, work, out)
