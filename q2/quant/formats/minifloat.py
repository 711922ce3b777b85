"""Small floats: a sign, a few bits of exponent and of mantissa, with subnormals (IEEE 754; OCP FP8, MX)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from q2.errors import OptionError
from q2.quant.formats.base import Format, Rounding, rounded

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MiniFloat", "Specials", "parse_layout"]

Specials = Literal["ieee", "fn", "none"]
"""Infinity and NaN as in IEEE 754; NaN alone, in the last code (OCP's E4M3); neither (OCP's FP6 and FP4)."""


@dataclass(frozen=True)
class MiniFloat(Format):
    """Numbers ±1.m · 2^(e - bias), and ±0.m · 2^(1 - bias), with `exponent` and `mantissa` bits.

    The bias is 2^(exponent-1) - 1 unless it is given. With `saturate` what is too large, infinity too, becomes the
    greatest finite value; else it becomes infinity, or NaN, as `specials` have it (with none it saturates). NaN stays
    NaN. Raises `OptionError` for widths that make no sense.

    >>> MiniFloat(4, 3, specials="fn").greatest, MiniFloat(5, 2).greatest, MiniFloat(2, 1, specials="none").greatest
    (448.0, 57344.0, 6.0)
    >>> import torch
    >>> MiniFloat(2, 1, specials="none").quantize(torch.tensor([0.2, 0.3, 2.5, 100.0])).tolist()
    [0.0, 0.5, 2.0, 6.0]
    """

    exponent: int
    mantissa: int
    bias: int | None = None
    specials: Specials = "ieee"
    rounding: Rounding = "nearest"
    saturate: bool = True

    def __post_init__(self) -> None:
        if not (1 <= self.exponent <= 8 and 0 <= self.mantissa <= 23):
            form = f"e{self.exponent}m{self.mantissa}"
            raise OptionError(f"{form} of 'minifloat': expected an exponent of 1 to 8 bits, a mantissa of 0 to 23")
        if self.bias is not None and not -127 <= self.bias <= 255:
            raise OptionError(f"bias {self.bias} of 'minifloat' is outside -127 to 255")
        if self.specials == "ieee" and self.exponent == 1:
            raise OptionError("'minifloat' with an exponent of 1 bit has no room for infinity; take specials = 'none'")

    @property
    def width(self) -> int:
        """Bits of a number."""
        return 1 + self.exponent + self.mantissa

    @property
    def offset(self) -> int:
        """The bias of the exponent."""
        return (1 << (self.exponent - 1)) - 1 if self.bias is None else self.bias

    @property
    def lowest_exponent(self) -> int:
        """The exponent of subnormal numbers, and of the least normal ones."""
        return 1 - self.offset

    @property
    def greatest_exponent(self) -> int:
        """The exponent of the greatest finite number."""
        return (1 << self.exponent) - 1 - self.offset - (self.specials == "ieee" or self._last_is_nan_alone)

    @cached_property
    def greatest(self) -> float:
        """The greatest finite number."""
        least_mantissa_bit = 2.0**-self.mantissa
        whole = 2.0 - least_mantissa_bit
        if self.specials == "fn" and self.mantissa:
            whole -= least_mantissa_bit  # the last code is NaN
        return whole * 2.0**self.greatest_exponent

    @property
    def _last_is_nan_alone(self) -> bool:
        return self.specials == "fn" and self.mantissa == 0

    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest finite value."""
        return -self.greatest, self.greatest

    def quantize(self, x: Tensor) -> Tensor:
        """Return the nearest values, in the shape and dtype of `x`."""
        import torch

        wide = x.double()
        exponent = (torch.frexp(wide).exponent - 1).clamp(min=self.lowest_exponent)
        step = torch.ldexp(torch.ones_like(wide), exponent - self.mantissa)
        found = torch.where(wide.isfinite(), rounded(wide / step, self.rounding) * step, wide)
        beyond = found.abs() > self.greatest
        if self.saturate or self.specials == "none":
            found = found.clamp(-self.greatest, self.greatest)
        elif self.specials == "fn":
            found = torch.where(beyond, torch.nan, found)
        else:
            found = torch.where(beyond, torch.copysign(torch.full_like(found, torch.inf), found), found)
        signed: Tensor = torch.copysign(found, wide)  # -0 is a number of its own
        return signed.to(x.dtype)

    def table(self) -> Tensor:
        """Return what every bit pattern (sign, exponent, mantissa) stands for: float64 (2^width,)."""
        import torch

        half = 1 << (self.width - 1)
        codes = torch.arange(half)
        exponent, mantissa = codes >> self.mantissa, codes % 2**self.mantissa
        fraction = mantissa.double() / 2**self.mantissa
        normal = torch.ldexp(1 + fraction, exponent - self.offset)
        values = torch.where(exponent > 0, normal, torch.ldexp(fraction, torch.tensor(self.lowest_exponent)))
        if self.specials == "ieee":
            values[-(2**self.mantissa) :] = torch.nan
            values[-(2**self.mantissa)] = torch.inf
        elif self.specials == "fn":
            values[-1] = torch.nan
        return torch.cat([values, -values])

    def codes(self, x: Tensor) -> Tensor:
        """Return the bit pattern of every value of `quantize`, finite ones: uint8, for a width of at most 8."""
        import torch

        values = self.quantize(x.double())
        half = 1 << (self.width - 1)
        table = self.table()[:half].to(x.device)
        places = torch.searchsorted(table[table.isfinite()], values.abs().contiguous())
        negative = (values < 0) | ((values == 0) & values.signbit())
        codes: Tensor = places + half * negative
        return codes.to(torch.uint8)

    def __str__(self) -> str:
        return f"minifloat-{self.width}.e{self.exponent}m{self.mantissa}"


def parse_layout(text: str) -> tuple[int, int]:
    """Read ``e4m3``: bits of exponent and mantissa. Raises `OptionError`.

    >>> parse_layout("e4m3")
    (4, 3)
    """
    match = re.fullmatch(r"e([0-9]{1,2})m([0-9]{1,2})", text, re.ASCII)
    if match is None:
        raise OptionError(f"{text!r}: expected bits of exponent and mantissa, as in 'e4m3'")
    return int(match[1]), int(match[2])
