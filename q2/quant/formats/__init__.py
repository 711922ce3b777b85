"""Number formats: what integers in fixed point, small floats and microscaling make of a tensor, value by value."""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.quant.formats.base import Format
    from q2.quant.formats.integer import Integer
    from q2.quant.formats.minifloat import MiniFloat
    from q2.quant.formats.mx import Mx
    from q2.quant.formats.straight_through import fake_quantize
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Format", "Integer", "MiniFloat", "Mx", "fake_quantize"]
