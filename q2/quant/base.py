"""What every quantizer is, and what fitting one to a weight gives."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from q2.errors import OptionError, Q2Error
from q2.quant.chunks import each_chunk
from q2.quant.options import MAX_WIDTH, Option

__all__ = ["Encoded", "Fitted", "Quantizer", "cast_to", "parameter_dtype"]


class Encoded(NamedTuple):
    """A weight as codes (uint8, the weight's shape) and parameters (already rounded to what is stored)."""

    codes: Tensor
    parameters: Mapping[str, Tensor]


class Quantizer(ABC):
    """An algorithm that turns a weight of shape (output channels, ...) into codes and parameters, and back.

    Authors write `encode`, `decode` and `overhead_bits`; `fit` puts them together. Parameters must be stored at `prec`
    bits an element (16 or 32), so that the size predicted from shapes is the size that a layer really holds.
    """

    name: ClassVar[str]
    min_bits: ClassVar[int] = 1
    max_bits: ClassVar[int] = MAX_WIDTH

    @abstractmethod
    def encode(self, weight: Tensor, bits: int, prec: int) -> Encoded:
        """Choose codes and parameters for a finite, non-empty float32, float16 or bfloat16 weight of 2 or more dims."""

    @abstractmethod
    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the values that `codes` stand for, of their shape and any float dtype, from the parameters alone."""

    @abstractmethod
    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return what the parameters of a weight of this shape take, in bits."""

    def size_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the exact size of a quantized weight of this shape, codes and parameters, in bits."""
        return math.prod(shape) * bits + self.overhead_bits(shape, bits, prec)

    def arithmetic_bits(self, bits: int) -> int:
        """Return the width at which the weight enters the arithmetic, the b_w of BOPs (Qua2SeDiMo, BOPs)."""
        return bits

    def fit(self, weight: Tensor, bits: int, prec: int = 16) -> "Fitted":
        """Quantize `weight`, of shape (O, I) or (O, I/groups, *kernel) and dtype float32, float16 or bfloat16.

        Raises `OptionError` for a width or precision that is not offered, `Q2Error` for a weight without values, of
        another dtype, or with NaN or infinity in it. Gradients are not tracked.
        """
        if not self.min_bits <= bits <= self.max_bits:
            raise OptionError(f"width {bits} of {self.name!r} is outside {self.min_bits} to {self.max_bits}")
        if prec not in (16, 32):
            raise OptionError(f"prec is {prec}, expected 16 or 32 bits for each parameter")
        with torch.no_grad():
            weight = _checked(weight.detach())
            codes, parameters = self.encode(weight, bits, prec)
            values = cast_to(self.decode(codes, parameters), weight.dtype)
            errors = _errors(weight, values)
        return Fitted(Option(self.name, bits), self, dict(parameters), codes, weight.dtype, prec, **errors)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A quantized weight: codes and parameters, from which alone its values come, and how far they are from the weight.

    Errors are float64, over the values in the weight's dtype: `mse` the mean of (x - x')^2, `l24` the mean of
    |x - x'|^2.4, `sqnr_db` 10 log10(sum x^2 / sum (x - x')^2), infinite where exact; `quantized_error` the sum over
    output channels of the channel's mean |x - x'|^2.4 (Qua2SeDiMo's error for a channel-wise quantizer).
    It never changes, so that copies of a module share it.
    """

    option: Option
    quantizer: Quantizer = field(repr=False)
    parameters: Mapping[str, Tensor] = field(repr=False)
    _codes: Tensor = field(repr=False)
    dtype: torch.dtype
    prec: int
    mse: float
    l24: float
    sqnr_db: float
    quantized_error: float

    def __deepcopy__(self, memo: dict[int, Any]) -> "Fitted":
        return self

    @property
    def shape(self) -> torch.Size:
        """The weight's shape."""
        return self._codes.shape

    def codes(self) -> Tensor:
        """Return the codes: uint8, the weight's shape."""
        return self._codes

    def dequantize(self) -> Tensor:
        """Return the values the codes stand for, in the weight's shape and dtype: bitwise what a layer holds."""
        return cast_to(self.quantizer.decode(self._codes, self.parameters), self.dtype)

    @property
    def bits(self) -> int:
        """The exact size in bits, codes and parameters, as predicted from the shape."""
        return self.quantizer.size_bits(self.shape, self.option.bits, self.prec)

    @property
    def bits_held(self) -> int:
        """The size in bits counted from the tensors held: codes at the width, every parameter element at `prec`."""
        elements = sum(parameter.numel() for parameter in self.parameters.values())
        return self._codes.numel() * self.option.bits + elements * self.prec


def parameter_dtype(prec: int, largest: float) -> torch.dtype:
    """Return the dtype in which a parameter is stored at `prec` bits, when `largest` is the largest absolute value.

    At 16 bits float16, unless `largest` leaves its range (above 65504, or so small that bfloat16 resolves it better).

    >>> parameter_dtype(16, 0.5), parameter_dtype(16, 1e6)
    (torch.float16, torch.bfloat16)
    """
    if prec == 32:
        return torch.float32
    small = 0 < largest < torch.finfo(torch.float16).smallest_normal / 4
    return torch.bfloat16 if small or largest > torch.finfo(torch.float16).max else torch.float16


def _checked(weight: Tensor) -> Tensor:
    shape = tuple(weight.shape)
    if weight.is_meta:
        raise Q2Error(f"a layer with a weight of shape {shape} has no weights (device meta)")
    if weight.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise Q2Error(f"a weight of shape {shape} is {weight.dtype}, expected float32, float16 or bfloat16")
    if weight.ndim < 2 or weight.numel() == 0:
        raise Q2Error(f"a weight of shape {shape} cannot be quantized, expected (output channels, inputs, ...)")
    if not bool(torch.isfinite(weight).all()):
        bad = int((~torch.isfinite(weight)).sum())
        raise Q2Error(f"a weight of shape {shape} holds {bad} values that are NaN or infinite")
    return weight


def cast_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast to the weight's dtype; what lies beyond its range becomes its largest value, not infinity."""
    if values.dtype == dtype:
        return values
    limit = torch.finfo(dtype).max
    return values.float().clamp(-limit, limit).to(dtype)


def _errors(weight: Tensor, values: Tensor) -> dict[str, float]:
    rows, restored = weight.flatten(1), values.flatten(1)

    def sums(part: slice) -> tuple[float, float, float]:
        exact = rows[part].double()
        error = (exact - restored[part].double()).abs_()
        return float(exact.square_().sum()), float(error.square().sum()), float(error.pow_(2.4).sum())

    signal, square, power = (math.fsum(each) for each in zip(*each_chunk(rows, sums), strict=True))
    count = weight.numel()
    ratio = math.inf if square == 0 else -math.inf if signal == 0 else 10 * (math.log10(signal) - math.log10(square))
    return {
        "mse": square / count,
        "l24": power / count,
        "sqnr_db": ratio,
        "quantized_error": power / rows.shape[1],
    }
