"""The base class of number formats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Format", "Rounding", "rounded"]

Rounding = Literal["nearest", "floor", "zero"]
"""To the nearest, ties to even; downwards; towards zero."""


class Format(ABC):
    """A number format: a frozen dataclass whose fields say it in full."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Bits of an element, without what several elements share."""

    @abstractmethod
    def quantize(self, x: Tensor) -> Tensor:
        """Return the format's values nearest to `x`, in its shape and dtype; computed in float64, hence exactly."""

    @abstractmethod
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest value; infinite where values share an exponent."""

    def bits(self, shape: Sequence[int]) -> int:
        """Return what a tensor of this shape takes, shared exponents included."""
        return self.width * math.prod(shape)


def rounded(x: Tensor, rounding: Rounding) -> Tensor:
    """Return `x`, of any shape, rounded to whole numbers.

    >>> import torch
    >>> [rounded(torch.tensor([-1.5, 0.5, 1.7]), how).tolist() for how in ("nearest", "floor", "zero")]
    [[-2.0, 0.0, 2.0], [-2.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]
    """
    if rounding == "floor":
        return x.floor()
    return x.trunc() if rounding == "zero" else x.round()
