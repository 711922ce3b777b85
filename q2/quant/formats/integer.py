"""Integers in fixed point: so many bits, so many of them behind the binary point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from q2.errors import OptionError
from q2.quant.formats.base import Format, Rounding, rounded

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Integer"]


@dataclass(frozen=True)
class Integer(Format):
    """Multiples k · 2^-`frac_width` of `bits` bits, two's complement: -2^(bits-1) ≤ k < 2^(bits-1).

    Unsigned ones have 0 ≤ k < 2^bits. What lies outside is clamped, or wraps around if `saturate` is false. NaN stays
    NaN, infinity is clamped in both cases. Raises `OptionError` for widths that make no sense.

    >>> import torch
    >>> Integer(8, 4).quantize(torch.tensor([0.0985, -0.2065, 100.0])).tolist()
    [0.125, -0.1875, 7.9375]
    """

    bits_each: int
    frac_width: int
    signed: bool = True
    rounding: Rounding = "nearest"
    saturate: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.bits_each <= 32:
            raise OptionError(f"width {self.bits_each} of 'integer' is outside 1 to 32")
        if not -32 <= self.frac_width <= 32:
            raise OptionError(f"frac_width {self.frac_width} of 'integer' is outside -32 to 32")

    @property
    def width(self) -> int:
        """Bits of a number."""
        return self.bits_each

    @property
    def least(self) -> int:
        """The least k."""
        return -(1 << (self.bits_each - 1)) if self.signed else 0

    @property
    def greatest(self) -> int:
        """The greatest k."""
        return self.least + (1 << self.bits_each) - 1

    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest value."""
        return self.least * 2.0**-self.frac_width, self.greatest * 2.0**-self.frac_width

    def steps(self, x: Tensor) -> Tensor:
        """Return k, in float64."""
        import torch

        found = rounded(x.double() * 2.0**self.frac_width, self.rounding)
        if not self.saturate:
            wrapped = torch.remainder(found - self.least, 2.0**self.bits_each) + self.least
            found = torch.where(found.isfinite(), wrapped, found)
        return found.clamp(self.least, self.greatest)

    def quantize(self, x: Tensor) -> Tensor:
        """Return the nearest values, in the shape and dtype of `x`."""
        return (self.steps(x) * 2.0**-self.frac_width).to(x.dtype)

    def __str__(self) -> str:
        return f"integer-{self.bits_each}.{self.frac_width}"
