"""What plugins offer to a rule or a recipe: quantizers; torch is not imported for their names."""

from typing import TYPE_CHECKING

from q2.plugins import Kind

if TYPE_CHECKING:
    from q2.quant.base import Quantizer

__all__ = ["QUANTIZERS"]

QUANTIZERS: "Kind[Quantizer]" = Kind("q2_quantizers", "q2.quant.base:Quantizer")
"""The quantizers that can be named in a rule or a recipe."""
