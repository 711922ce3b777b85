"""Microscaling (OCP MX v1.0): blocks of elements, floats or integers, that share a power of two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q2.errors import OptionError
from q2.quant.formats.base import Format
from q2.quant.formats.integer import Integer
from q2.quant.formats.minifloat import MiniFloat, Specials

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BLOCK", "LAYOUTS", "Mx", "mx_float", "mx_integer"]

BLOCK = 32
LAYOUTS = {4: "e2m1", 6: "e2m3", 8: "e4m3"}
"""The elements of MXFP4, MXFP6 and MXFP8 where none are named; OCP has E3M2 and E5M2 too."""
_SPECIALS: dict[tuple[int, int], Specials] = {(4, 3): "fn", (5, 2): "ieee"}
_LEAST, _GREATEST = -127, 127


@dataclass(frozen=True)
class Mx(Format):
    """Elements x / 2^s, with one s of 8 bits for every `block` elements along `dim`, the last block perhaps shorter.

    s = floor(log2(max |x|)) - the greatest exponent of an element, within -127 to 127 (E8M0); elements saturate. A
    block with NaN or infinity in it becomes NaN, as its shared exponent does. Raises `OptionError`.
    Source: OCP Microscaling Formats (MX) Specification 1.0, sections 5 and 6.3.

    >>> import torch
    >>> Mx(MiniFloat(2, 1, specials="none")).quantize(torch.tensor([0.1, 1.0, 5.0, -40.0])).tolist()
    [0.0, 0.0, 4.0, -32.0]
    """

    element: Integer | MiniFloat
    block: int = BLOCK
    dim: int = -1

    def __post_init__(self) -> None:
        if self.block < 1:
            raise OptionError(f"block_size {self.block} of 'mx': expected 1 or more")

    @property
    def width(self) -> int:
        """Bits of an element."""
        return self.element.width

    def limits(self) -> tuple[float, float]:
        """Return no bounds: a block is scaled to its own."""
        return -math.inf, math.inf

    def bits(self, shape: Sequence[int]) -> int:
        """Return what elements and shared exponents take."""
        count = math.prod(shape)
        length = shape[self.dim] if shape else 1
        return count * self.width + 8 * (count // max(length, 1)) * -(-length // self.block)

    def shared(self, x: Tensor) -> Tensor:
        """Return s for blocks (..., block) along the last dim: int32 (..., 1); NaN or infinity count as 0."""
        import torch

        largest = x.double().abs().amax(-1, keepdim=True)
        top = self.element.greatest_exponent if isinstance(self.element, MiniFloat) else _integer_exponent(self.element)
        exponent = torch.frexp(torch.nan_to_num(largest, 0.0, 0.0, 0.0)).exponent - 1 - top
        shared: Tensor = torch.where(largest > 0, exponent, _LEAST).clamp(_LEAST, _GREATEST)
        return shared

    def blocks(self, x: Tensor) -> Tensor:
        """Return a tensor (..., n), in float64, as blocks (..., ceil(n / block), block), zeros behind the last."""
        from torch.nn import functional as F

        wide = x.double()
        padded: Tensor = F.pad(wide, (0, -wide.shape[-1] % self.block))
        blocks: Tensor = padded.unflatten(-1, (-1, self.block))
        return blocks

    def quantize(self, x: Tensor) -> Tensor:
        """Return the nearest values, in the shape and dtype of `x`."""
        import torch

        if not x.numel() or not x.ndim:
            return x if not x.numel() else self.quantize(x.reshape(1)).reshape(())
        moved = x.movedim(self.dim, -1)
        blocks = self.blocks(moved)
        shared = self.shared(blocks)
        scale = torch.ldexp(torch.ones_like(shared, dtype=torch.float64), shared)
        found = self.element.quantize(blocks / scale) * scale
        values: Tensor = torch.where(blocks.isfinite().all(-1, keepdim=True), found, torch.nan)
        return values.flatten(-2)[..., : moved.shape[-1]].movedim(-1, self.dim).to(x.dtype)

    def __str__(self) -> str:
        if isinstance(self.element, MiniFloat):
            return f"mxfp{self.width}.e{self.element.exponent}m{self.element.mantissa}"
        return f"mxint{self.width}"


def mx_float(exponent: int, mantissa: int, block: int = BLOCK, dim: int = -1) -> Mx:
    """Return MX with float elements; E4M3 and E5M2 have OCP's special values, which no element takes."""
    return Mx(MiniFloat(exponent, mantissa, specials=_SPECIALS.get((exponent, mantissa), "none")), block, dim)


def mx_integer(width: int, block: int = BLOCK, dim: int = -1) -> Mx:
    """Return MX with integer elements: `width` - 2 bits behind the point, from -2 up to just below 2.

    Raises `OptionError` for a width outside 2 to 16.

    >>> str(mx_integer(8))
    'mxint8'
    """
    if not 2 <= width <= 16:
        raise OptionError(f"width {width} of 'mx' integers is outside 2 to 16")
    return Mx(Integer(width, width - 2), block, dim)


def _integer_exponent(element: Integer) -> int:
    return element.bits_each - 2 - element.frac_width
