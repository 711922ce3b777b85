"""Quantizers with parameters for every group of inputs: uniform levels (`uaq-g32`) and NormalFloat (`nf-g64`)."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from q2.quant import Quantizer
from q2.quant.calibration.normal import Normal
from q2.quant.dtypes import cast_to, parameter_dtype
from q2.quant.quantizers.uniform import Uaq

__all__ = [
    "NormalFloat",
    "NormalFloatG32",
    "NormalFloatG64",
    "NormalFloatG128",
    "UaqG32",
    "UaqG64",
    "UaqG128",
    "grouped",
    "normal_levels",
]


class UaqG32(Quantizer):
    """q2's `uaq` for every group of 32 inputs of an output channel: x' = scale * (code - zero).

    Parameters: ``scale`` and ``zero`` (O, groups). Groups follow ``weight.flatten(1)``; of a convolution they are 32
    kernel positions, channel by channel. The last group may be shorter. Groups of one channel have levels of their own,
    so there is nothing for `levels` to return: calibration leaves this quantizer as it is fitted to the weight.
    """

    name: ClassVar[str] = "uaq-g32"
    group: ClassVar[int] = 32
    per_channel: ClassVar[tuple[str, ...] | None] = ("scale", "zero")
    _each: ClassVar[Uaq] = Uaq()

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Search scale and zero point of every group."""
        rows = grouped(weight, self.group)
        found = self._each.parameters(rows.flatten(0, 1), bits, prec)
        return {name: values.view(rows.shape[:2]) for name, values in found.items()}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the nearest level of every value."""
        rows = grouped(weight, self.group)
        codes = self._each.encode(rows.flatten(0, 1), _flat(parameters), bits)
        return _ungrouped(codes.view(rows.shape), weight.shape)

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return scale * (code - zero) in float32."""
        rows = grouped(codes, self.group)
        values = self._each.decode(rows.flatten(0, 1), _flat(parameters))
        return _ungrouped(values.view(rows.shape), codes.shape)

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of a scale and a zero point for each group.

        >>> UaqG32().overhead_bits((8, 96), 3)
        768
        """
        return 2 * prec * shape[0] * math.ceil(math.prod(shape[1:]) / self.group)


class UaqG64(UaqG32):
    """The same for groups of 64."""

    name: ClassVar[str] = "uaq-g64"
    group: ClassVar[int] = 64


class UaqG128(UaqG32):
    """The same for groups of 128."""

    name: ClassVar[str] = "uaq-g128"
    group: ClassVar[int] = 128


class NormalFloat(Quantizer):
    """NormalFloat: scale * level, where the levels are quantiles of the normal distribution; `nf-4` is NF4.

    The parameter ``scale`` (O, groups) is the largest absolute value of a group; without `group` it is that of an
    output channel. Then all values of a channel share their levels, and calibration fits scale and codes to the
    layer's outputs. Source: Dettmers et al., QLoRA, NeurIPS'23, section 3.
    """

    name: ClassVar[str] = "nf"
    group: ClassVar[int] = 0
    min_bits: ClassVar[int] = 2
    per_channel: ClassVar[tuple[str, ...] | None] = ("scale",)

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Return the largest absolute value of every group."""
        largest = grouped(weight, self.group).abs().amax(2).float()
        return {"scale": cast_to(largest, parameter_dtype(prec, float(largest.max())))}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the code of the nearest level."""
        levels = normal_levels(bits).to(weight.device)
        scale = parameters["scale"].double()[..., None]
        rows = grouped(weight, self.group).double() / torch.where(scale > 0, scale, 1)
        codes = torch.bucketize(rows, (levels[1:] + levels[:-1]) / 2).to(torch.uint8)
        return _ungrouped(codes, weight.shape)

    def decode_at(self, codes: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return scale * level in float32."""
        rows = normal_levels(bits).to(codes.device)[grouped(codes, self.group).int()]
        values = rows * parameters["scale"].to(codes.device).double()[..., None]
        return _ungrouped(values.float(), codes.shape)

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Raise `NotImplementedError`: a code means nothing without its width, see `decode_at`."""
        raise NotImplementedError(f"codes of {self.name!r} cannot be decoded without their width")

    def levels(self, parameters: Mapping[str, Tensor], bits: int) -> Tensor | None:
        """Return the levels of every channel (O, 2^bits), where a channel is one group."""
        if self.group:
            return None
        scale = parameters["scale"].double()
        return (normal_levels(bits).to(scale.device) * scale).float()

    def refit(self, normal: Normal, parameters: Mapping[str, Tensor], bits: int) -> Mapping[str, Tensor]:
        """Return the scale of every channel that has the least output error for given codes."""
        scale = parameters["scale"].clone()
        levels = normal_levels(bits).to(scale.device)
        for part, curvature, pull in normal.each():
            best = (pull @ levels) / (curvature @ levels @ levels)
            held = cast_to(best.float(), scale.dtype)[:, None]
            scale[part] = torch.where((held > 0) & held.isfinite(), held, scale[part])
        return {"scale": scale}

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of one scale for each group.

        >>> NormalFloat().overhead_bits((8, 96), 4), NormalFloatG64().overhead_bits((8, 96), 4)
        (128, 256)
        """
        return prec * shape[0] * (math.ceil(math.prod(shape[1:]) / self.group) if self.group else 1)

    def arithmetic_bits(self, bits: int) -> int:
        """Return 16: weights are looked up, the arithmetic stays at 16 bits."""
        return 16


class NormalFloatG32(NormalFloat):
    """The same with a scale for every group of 32 inputs."""

    name: ClassVar[str] = "nf-g32"
    group: ClassVar[int] = 32


class NormalFloatG64(NormalFloat):
    """The same with a scale for every group of 64 inputs: with 4 bits, QLoRA's NF4."""

    name: ClassVar[str] = "nf-g64"
    group: ClassVar[int] = 64


class NormalFloatG128(NormalFloat):
    """The same with a scale for every group of 128 inputs."""

    name: ClassVar[str] = "nf-g128"
    group: ClassVar[int] = 128


def normal_levels(bits: int) -> Tensor:
    """Return the 2^bits levels of NormalFloat from -1 to 1, ascending, with 0 among them; float64.

    >>> [round(float(level), 4) for level in normal_levels(2)]
    [-1.0, 0.0, 0.4358, 1.0]
    """
    half = 2 ** (bits - 1)
    last = 1 - (1 / (2 * half - 1) + 1 / (2 * half)) / 4
    above = torch.special.ndtri(torch.linspace(last, 0.5, half + 1, dtype=torch.float64))[:-1]
    below = -torch.special.ndtri(torch.linspace(last, 0.5, half, dtype=torch.float64))[:-1]
    levels = torch.cat([below, torch.zeros(1, dtype=torch.float64), above.flip(0)])
    return levels / levels.abs().max()


def grouped(weight: Tensor, group: int) -> Tensor:
    """Return a weight (O, ...) as groups (O, G, group), all inputs in one where `group` is 0.

    A last group that is shorter is filled up with its own values, again and again.

    >>> grouped(torch.arange(5)[None], 3).tolist()
    [[[0, 1, 2], [3, 4, 3]]]
    """
    rows = weight.flatten(1)
    if not group:
        return rows[:, None]
    over = rows.shape[1] % group
    if over:
        tail = rows[:, -over:]
        rows = torch.cat([rows, tail.repeat(1, math.ceil(group / over))[:, : group - over]], 1)
    return rows.reshape(len(rows), -1, group)


def _ungrouped(rows: Tensor, shape: torch.Size) -> Tensor:
    """Return what `grouped` was given."""
    return rows.flatten(1)[:, : math.prod(shape[1:])].reshape(shape)


def _flat(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameters with a row for every group."""
    return {name: values.flatten() for name, values in parameters.items()}
