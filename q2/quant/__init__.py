"""Quantizers: options, fitting a weight, layers that simulate it, and recipes."""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.quant.base import Fitted, FittedWeight, Quantizer
    from q2.quant.contents import PartContents, read_parts
    from q2.quant.options import Option
    from q2.quant.recipe import Recipe
    from q2.quant.resolve import builtin_quantizer, fit
    from q2.quant.simulated import Part, parts_of, plan_layer, quantize_layer, quantize_parts, switch_layer
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Fitted",
    "FittedWeight",
    "Option",
    "Part",
    "PartContents",
    "Quantizer",
    "Recipe",
    "builtin_quantizer",
    "fit",
    "parts_of",
    "plan_layer",
    "quantize_layer",
    "quantize_parts",
    "read_parts",
    "switch_layer",
]
