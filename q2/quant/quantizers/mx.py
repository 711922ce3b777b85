"""The quantizers ``mxfp`` and ``mxint``: microscaling, 32 elements of a row with one power of two (OCP MX v1.0)."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from q2.errors import OptionError
from q2.quant.formats.integer import Integer
from q2.quant.formats.minifloat import MiniFloat, parse_layout
from q2.quant.formats.mx import BLOCK, LAYOUTS, Mx, mx_float, mx_integer
from q2.quant.quantizers.formed import Formed, check_layout, looked_up

__all__ = ["MxFloat", "MxInteger"]

_EXPONENT = 8
_BIAS = 127


class _Mx(Formed):
    """Blocks of 32 along the inputs of an output channel; of a convolution channel by channel, then the kernel.

    The parameter ``scale`` (O, …) holds the shared exponents plus 127, 8 bits each: two to an element of 16 bits, four
    to one of 32.
    """

    per_channel: ClassVar[tuple[str, ...] | None] = ("scale",)

    @abstractmethod
    def format(self, bits: int) -> Mx:
        """Return the number format at a width."""

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Return the shared exponents, packed."""
        form = self.format(bits)
        shared = form.shared(form.blocks(weight.reshape(len(weight), -1)))[..., 0]
        return {"scale": _packed(shared + _BIAS, prec)}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the elements' codes: bit patterns of floats, integers plus 2^(bits-1)."""
        form = self.format(bits)
        blocks = form.blocks(weight.reshape(len(weight), -1))
        elements = blocks / _powers(parameters["scale"], blocks.shape[1])
        codes = _codes(form.element, elements)
        return codes.flatten(1)[:, : weight[0].numel()].reshape(weight.shape)

    def decode_at(self, codes: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return element · 2^s in float32."""
        form = self.format(bits)
        rows = codes.reshape(len(codes), -1)
        blocks = form.blocks(_values(form.element, rows))
        values = blocks * _powers(parameters["scale"].to(codes.device), blocks.shape[1])
        return values.flatten(1)[:, : rows.shape[1]].reshape(codes.shape).float()

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of the shared exponents, every channel's filled up to whole elements.

        >>> MxInteger().overhead_bits((4, 96), 8)
        128
        """
        blocks = -(-math.prod(shape[1:]) // BLOCK)
        return prec * shape[0] * -(-blocks * _EXPONENT // prec)


class MxFloat(_Mx):
    """Floats that share exponents: ``mxfp4``, ``mxfp6``, ``mxfp8``; ``mxfp6.e3m2`` and ``mxfp8.e5m2`` name the others.

    Without a form they are e2m1, e2m3 and e4m3.

    >>> from q2.quant import fit
    >>> fit(torch.tensor([[0.4, 1.0, 5.0, -40.0]]), "mxfp4").dequantize().tolist()
    [[0.0, 0.0, 4.0, -32.0]]
    """

    name: ClassVar[str] = "mxfp"
    min_bits: ClassVar[int] = 4

    @classmethod
    def check_form(cls, form: str) -> None:
        """Raise `OptionError` for a layout that is none of OCP's."""
        parse_layout(form)
        if form not in ("e2m1", "e2m3", "e3m2", "e4m3", "e5m2"):
            raise OptionError(f"'mxfp' as {form!r}: expected e2m1, e2m3, e3m2, e4m3 or e5m2")

    def check_width(self, bits: int) -> None:
        """Raise `OptionError` for a width that is not 4, 6 or 8, or not the form's."""
        if bits not in LAYOUTS:
            raise OptionError(f"width {bits} of 'mxfp' is none of 4, 6 and 8")
        self.format(bits)

    def format(self, bits: int) -> Mx:
        """Return the number format at a width. Raises `OptionError` where the form takes other bits."""
        layout = parse_layout(self.form or LAYOUTS[bits])
        check_layout(self.name, bits, layout)
        return mx_float(*layout)


class MxInteger(_Mx):
    """Integers that share exponents: ``mxint8`` is OCP's, 2 to 7 bits are possible too.

    >>> from q2.quant import fit
    >>> fit(torch.tensor([[0.3, -1.0]]), "mxint4").dequantize().tolist()
    [[0.25, -1.0]]
    """

    name: ClassVar[str] = "mxint"
    min_bits: ClassVar[int] = 2

    @classmethod
    def check_form(cls, form: str) -> None:
        """Raise `OptionError`: there are no forms."""
        raise OptionError(f"'mxint' takes no form, found {form!r}")

    def format(self, bits: int) -> Mx:
        """Return the number format at a width."""
        return mx_integer(bits)


def _packed(exponents: Tensor, prec: int) -> Tensor:
    """Return bytes (O, n) as int16 or int32 (O, ceil(n / 2 or 4)), the first the lowest."""
    each = prec // _EXPONENT
    filled = torch.nn.functional.pad(exponents.to(torch.uint8), (0, -exponents.shape[1] % each)).contiguous()
    return filled.view(torch.int16 if prec == 16 else torch.int32)


def _powers(scale: Tensor, blocks: int) -> Tensor:
    """Return 2^s of every block: float64 (O, blocks, 1)."""
    exponents = scale.contiguous().view(torch.uint8)[:, :blocks].to(torch.int32) - _BIAS
    return torch.ldexp(torch.ones_like(exponents, dtype=torch.float64), exponents)[..., None]


def _codes(element: Integer | MiniFloat, x: Tensor) -> Tensor:
    if isinstance(element, MiniFloat):
        return element.codes(x)
    return (element.steps(x) - element.least).to(torch.uint8)


def _values(element: Integer | MiniFloat, codes: Tensor) -> Tensor:
    if isinstance(element, MiniFloat):
        return looked_up(element.table(), codes)
    return (codes.double() + element.least) * 2.0**-element.frac_width
