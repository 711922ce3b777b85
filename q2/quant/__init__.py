"""Quantizers: options, fitting a weight, layers that simulate it, and recipes."""

from q2.quant.base import Encoded, Fitted, Quantizer
from q2.quant.layers import fitted_of, option_of, plan_layer, quantize_layer
from q2.quant.options import Option
from q2.quant.recipe import Recipe
from q2.quant.resolve import builtin_quantizer, fit

__all__ = [
    "Encoded",
    "Fitted",
    "Option",
    "Quantizer",
    "Recipe",
    "builtin_quantizer",
    "fit",
    "fitted_of",
    "option_of",
    "plan_layer",
    "quantize_layer",
]
