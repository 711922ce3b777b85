"""The base class of quantizers, and the result of fitting one to a weight."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from q2.errors import OptionError, Q2Error
from q2.quant.calibration.normal import Normal
from q2.quant.dtypes import cast_to
from q2.quant.kernels.errors import Errors, measure
from q2.quant.kernels.fused import Kind
from q2.quant.options import MAX_WIDTH, Option
from q2.quant.packed.packing import unpack

__all__ = ["Fitted", "FittedWeight", "OutputErrors", "Quantizer", "check_weight"]


class Quantizer(ABC):
    """An algorithm that turns a weight of shape (output channels, ...) into codes and parameters, and back.

    Authors write `parameters`, `encode`, `decode` and `overhead_bits`; `fit` puts them together, and
    `q2.testing.check_quantizer` says whether they keep to what is asked of them here. Parameters must be
    stored at `prec` bits an element (16 or 32), so that the size predicted from shapes is the size that a layer really
    holds. Codes are not kept: they must follow from the weight and the parameters, and from the quantized weight alike.
    """

    name: ClassVar[str]
    min_bits: ClassVar[int] = 1
    max_bits: ClassVar[int] = MAX_WIDTH
    per_channel: ClassVar[tuple[str, ...] | None] = None
    """The parameters with a row for each output channel, where a few channels are decoded from their rows alone."""

    code: ClassVar[Kind] = ""
    """What a code is, where a kernel may decode it; see `q2.quant.kernels.fused`."""

    @abstractmethod
    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Choose parameters, rounded to what is stored, for a finite, non-empty weight of 2 or more dims.

        The weight is float32, float16 or bfloat16; gradients are not tracked.
        """

    @abstractmethod
    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the codes: uint8, the weight's shape."""

    @abstractmethod
    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the values that `codes` stand for, of their shape and any float dtype, from the parameters alone."""

    @abstractmethod
    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return what the parameters of a weight of this shape take, in bits."""

    def decode_at(self, codes: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the same, for quantizers whose codes stand for nothing without their width."""
        return self.decode(codes, parameters)

    def parameters_each(self, weight: Tensor, widths: Sequence[int], prec: int) -> list[Mapping[str, Tensor]]:
        """Return `parameters` at each of `widths`, for quantizers to which several are less work than one by one."""
        return [self.parameters(weight, bits, prec) for bits in widths]

    def levels(self, parameters: Mapping[str, Tensor], bits: int) -> Tensor | None:
        """Return what the codes 0 to 2^bits - 1 stand for, ascending: (O, 2^bits), or (1, 2^bits) for all channels.

        A quantizer that says so can be calibrated. None, by default, for one that cannot: it is fitted to the weight
        alone.
        """
        return None

    def refit(self, normal: Normal, parameters: Mapping[str, Tensor], bits: int) -> Mapping[str, Tensor]:
        """Return better parameters for given codes, of the same dtypes: their levels are the best by `normal`.

        By default they stay: then codes alone are calibrated.
        """
        return parameters

    def weighted_parameters(
        self, weight: Tensor, importance: Tensor, widths: Sequence[int], prec: int
    ) -> list[Mapping[str, Tensor]]:
        """Return the parameters that calibration starts from, for squared errors that count `importance` (O, n) each.

        By default they are the parameters fitted to the weight alone.
        """
        return self.parameters_each(weight, widths, prec)

    def restore(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int, out: Tensor | None = None) -> Tensor:
        """Return the quantized weight, in the weight's dtype: what `decode` makes of `encode`, perhaps faster.

        It may be written to `out`, of the same shape and dtype, and that be returned.
        """
        return cast_to(self.decode_at(self.encode(weight, parameters, bits), parameters, bits), weight.dtype)

    def size_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the exact size of a quantized weight of this shape, codes and parameters, in bits."""
        return math.prod(shape) * bits + self.overhead_bits(shape, bits, prec)

    def arithmetic_bits(self, bits: int) -> int:
        """Return the width at which the weight enters the arithmetic, the b_w of BOPs (Qua2SeDiMo, BOPs)."""
        return bits

    def check_width(self, bits: int) -> None:
        """Raise `OptionError` for a width that is not offered."""
        if not self.min_bits <= bits <= self.max_bits:
            raise OptionError(f"width {bits} of {self.name!r} is outside {self.min_bits} to {self.max_bits}")

    def fit(self, weight: Tensor, bits: int, prec: int = 16) -> "FittedWeight":
        """Quantize `weight`, of shape (O, I) or (O, I/groups, *kernel) and dtype float32, float16 or bfloat16.

        Raises `OptionError` for a width or precision that is not offered, `Q2Error` for a weight without values, of
        another dtype, or with NaN or infinity in it. Gradients are not tracked.
        """
        return self.fit_each(weight, [bits], prec)[0]

    def fit_each(self, weight: Tensor, widths: Sequence[int], prec: int = 16) -> list["FittedWeight"]:
        """Quantize `weight` at each of `widths`. Shapes and errors are those of `fit`: `OptionError`, `Q2Error`."""
        for bits in widths:
            self.check_width(bits)
        if prec not in (16, 32):
            raise OptionError(f"prec is {prec}, expected 16 or 32 bits for each parameter")
        with torch.no_grad():
            weight = check_weight(weight.detach())
            found = self.parameters_each(weight, widths, prec)
            return [self._fitted(weight, bits, prec, each) for bits, each in zip(widths, found, strict=True)]

    def _fitted(self, weight: Tensor, bits: int, prec: int, parameters: Mapping[str, Tensor]) -> "FittedWeight":
        errors = measure(weight, self.restore(weight, parameters, bits))
        option = Option(self.name, bits)
        return FittedWeight(option, self, dict(parameters), weight.shape, weight.dtype, prec, errors, weight)


class OutputErrors(NamedTuple):
    """Sums of squares over the outputs for one image's inputs: of the error, of the plain option's, of the signal."""

    error: float
    plain: float
    signal: float

    @property
    def sqnr_db(self) -> float:
        """The ratio of signal to error, in dB; infinite where there is no error."""
        return 10 * math.log10(self.signal / self.error) if self.error and self.signal else math.inf


@dataclass(frozen=True, eq=False)
class Fitted:
    """The parameters that quantize a weight, without the weight, and how far they leave it from what it was.

    Calibrated, it has the codes, packed, which do not follow from the weight, and `outputs`, how far it leaves the
    layer's outputs. It never changes, so that copies of a module share it.
    """

    option: Option
    quantizer: Quantizer = field(repr=False)
    parameters: Mapping[str, Tensor] = field(repr=False)
    shape: torch.Size
    dtype: torch.dtype
    prec: int
    errors: Errors
    packed_codes: Tensor | None = field(default=None, repr=False, kw_only=True)
    outputs: OutputErrors | None = field(default=None, kw_only=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Fitted":
        return self

    def restore(self, weight: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the quantized `weight`, which must be the one that was fitted, or the quantized one already.

        It may be written to `out`, of the same shape and dtype, and that be returned.
        """
        parameters = {name: parameter.to(weight.device) for name, parameter in self.parameters.items()}
        if self.packed_codes is not None:
            codes = unpack(self.packed_codes.to(weight.device), self.option.bits, math.prod(self.shape))
            values = self.quantizer.decode_at(codes.reshape(self.shape), parameters, self.option.bits)
            return cast_to(values, self.dtype)
        return self.quantizer.restore(weight, parameters, self.option.bits, out)

    @property
    def mse(self) -> float:
        """The mean of (x - x')^2."""
        return self.errors.mse

    @property
    def l24(self) -> float:
        """The mean of |x - x'|^2.4."""
        return self.errors.l24

    @property
    def sqnr_db(self) -> float:
        """The ratio of signal to quantization noise, in dB."""
        return self.errors.sqnr_db

    @property
    def quantized_error(self) -> float:
        """The sum over output channels of the channel's mean |x - x'|^2.4."""
        return self.errors.quantized_error

    @property
    def bits(self) -> int:
        """The exact size in bits, codes and parameters, as predicted from the shape."""
        return self.quantizer.size_bits(self.shape, self.option.bits, self.prec)

    @property
    def bits_held(self) -> int:
        """The size in bits counted from the tensors held: codes at the width, every parameter element at `prec`."""
        elements = sum(parameter.numel() for parameter in self.parameters.values())
        return math.prod(self.shape) * self.option.bits + elements * self.prec


@dataclass(frozen=True, eq=False)
class FittedWeight(Fitted):
    """The same together with the weight, from which the codes follow."""

    weight: Tensor = field(repr=False)

    def codes(self) -> Tensor:
        """Return the codes: uint8, the weight's shape."""
        return self.quantizer.encode(self.weight, self.parameters, self.option.bits)

    def dequantize(self) -> Tensor:
        """Return the quantized weight, in the weight's shape and dtype: bitwise what a layer holds."""
        return self.quantizer.restore(self.weight, self.parameters, self.option.bits)

    def without_weight(self) -> Fitted:
        """Return what may be kept without keeping the weight."""
        return Fitted(self.option, self.quantizer, self.parameters, self.shape, self.dtype, self.prec, self.errors)


def check_weight(weight: Tensor) -> Tensor:
    """Return the weight, of any shape (O, I, ...), unchanged.

    Raises `Q2Error` for one without values, of another shape or dtype than `Quantizer.fit` takes, or with NaN or
    infinity.
    """
    shape = tuple(weight.shape)
    if weight.is_meta:
        raise Q2Error(f"a layer with a weight of shape {shape} has no weights (device meta)")
    if weight.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise Q2Error(f"a weight of shape {shape} is {weight.dtype}, expected float32, float16 or bfloat16")
    if weight.ndim < 2 or weight.numel() == 0:
        raise Q2Error(f"a weight of shape {shape} cannot be quantized, expected (output channels, inputs, ...)")
    low, high = weight.aminmax()
    if not math.isfinite(float(low)) or not math.isfinite(float(high)):
        bad = int((~torch.isfinite(weight)).sum())
        raise Q2Error(f"a weight of shape {shape} holds {bad} values that are NaN or infinite")
    return weight
