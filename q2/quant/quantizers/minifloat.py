"""The quantizer ``minifloat``: small floats, the same for the whole weight, and nothing stored beside the codes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from q2.errors import OptionError
from q2.quant.formats.minifloat import MiniFloat, parse_layout
from q2.quant.quantizers.formed import Formed, check_layout, looked_up

__all__ = ["MiniFloatQuantizer"]

_LAYOUTS = {3: "e2m0", 4: "e2m1", 5: "e2m2", 6: "e3m2", 7: "e3m3", 8: "e4m3"}


class MiniFloatQuantizer(Formed):
    """Floats of 3 to 8 bits without infinity and NaN: ``minifloat-8.e4m3``; a code is sign, exponent, mantissa.

    Without a form it is e2m0, e2m1, e2m2, e3m2, e3m3 or e4m3, by the width. The exponent takes at most 5 bits, so that
    a float16 weight holds any value.

    >>> import torch
    >>> from q2.quant import fit
    >>> fit(torch.tensor([[0.3, -5.0]]), "minifloat-4.e2m1").dequantize().tolist()
    [[0.5, -4.0]]
    """

    name: ClassVar[str] = "minifloat"
    min_bits: ClassVar[int] = 3

    @classmethod
    def check_form(cls, form: str) -> None:
        """Raise `OptionError` for a form that is no layout, or of a wide exponent."""
        exponent, mantissa = parse_layout(form)
        if not 1 <= exponent <= 5 or exponent + mantissa > 7:
            raise OptionError(f"'minifloat' as {form!r}: expected an exponent of 1 to 5 bits, and 8 bits in all")

    def format(self, bits: int) -> MiniFloat:
        """Return the number format at a width. Raises `OptionError` where the form takes other bits."""
        layout = parse_layout(self.form or _LAYOUTS[bits])
        check_layout(self.name, bits, layout)
        # 5 bits of exponent without special values would reach beyond float16 from 65536 on: one binade less.
        return MiniFloat(*layout, bias=16 if layout[0] == 5 else None, specials="none")

    def check_width(self, bits: int) -> None:
        """Raise `OptionError` for a width that is not offered, or not the form's."""
        super().check_width(bits)
        self.format(bits)

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Return an empty mapping: a weight of any shape has no parameters."""
        return {}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the bit patterns of the nearest values: uint8, the weight's shape."""
        return self.format(bits).codes(weight)

    def decode_at(self, codes: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the float32 values of the bit patterns, in the shape of the codes."""
        return looked_up(self.format(bits).table(), codes)

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return 0."""
        return 0
