"""The quantizer ``none``: the weight stays as it is."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from q2.quant.base import Quantizer
from q2.quant.options import NONE

__all__ = ["NoQuantizer"]


class NoQuantizer(Quantizer):
    """Keep the weight untouched. It counts `prec` bits an element, all of it overhead: there are no codes.

    >>> NoQuantizer().size_bits((8, 4), 0)
    512
    """

    name: ClassVar[str] = NONE
    min_bits: ClassVar[int] = 0
    max_bits: ClassVar[int] = 0
    per_channel: ClassVar[tuple[str, ...] | None] = ("weight",)

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Return a copy of the weight as the only parameter."""
        return {"weight": weight.clone()}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return codes that take no memory: one zero, expanded."""
        return torch.zeros(1, dtype=torch.uint8, device=weight.device).expand(weight.shape)

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the weight."""
        return parameters["weight"]

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return `prec` bits for every element."""
        return prec * math.prod(shape)

    def arithmetic_bits(self, bits: int) -> int:
        """Return 16, as for all arithmetic that is not quantized."""
        return 16
