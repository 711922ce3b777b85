"""The quantizer ``integer``: fixed point, one fraction for the whole weight and nothing stored beside the codes."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from q2.errors import OptionError
from q2.quant.formats.integer import Integer
from q2.quant.quantizers.formed import Formed

__all__ = ["IntegerQuantizer"]

_LEAST, _GREATEST = -8, 24


class IntegerQuantizer(Formed):
    """Fixed point: ``integer-8.4`` has 8 bits, 4 of them behind the point; without a form it is half of them.

    Codes are k + 2^(bits-1). A float16 weight holds any of its values, which bounds the form: -8 to 24.

    >>> from q2.quant import fit
    >>> fit(torch.tensor([[0.0985, -0.2065]]), "integer-8.4").dequantize().tolist()
    [[0.125, -0.1875]]
    """

    name: ClassVar[str] = "integer"

    @classmethod
    def check_form(cls, form: str) -> None:
        """Raise `OptionError` for a form that is no number of bits."""
        try:
            inside = _LEAST <= int(form) <= _GREATEST
        except ValueError:
            inside = False
        if not inside:
            raise OptionError(f"'integer' with {form!r} bits behind the point: expected {_LEAST} to {_GREATEST}")

    def format(self, bits: int) -> Integer:
        """Return the number format at a width."""
        return Integer(bits, int(self.form) if self.form else bits // 2)

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Return an empty mapping: a weight of any shape has no parameters."""
        return {}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the nearest codes: uint8, the weight's shape."""
        form = self.format(bits)
        return (form.steps(weight) - form.least).to(torch.uint8)

    def decode_at(self, codes: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return k · 2^-fraction in float32, in the shape of the codes."""
        form = self.format(bits)
        return (codes.float() + form.least) * 2.0**-form.frac_width

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return 0."""
        return 0
