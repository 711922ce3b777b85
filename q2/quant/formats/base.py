"""What a number format is, and quantization to one that lets gradients through."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

__all__ = ["Format", "Rounding", "fake_quantize", "rounded"]

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
        return self.width * torch.Size(shape).numel()


def fake_quantize(x: Tensor, form: Format) -> Tensor:
    """Return ``form.quantize(x)`` with a straight-through gradient: 1 within the limits, 0 for what saturates.

    Source: Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons, 2013.

    >>> from q2.quant.formats.integer import Integer
    >>> x = torch.tensor([0.3, 9.0], requires_grad=True)
    >>> fake_quantize(x, Integer(4, 2)).sum().backward()
    >>> x.grad.tolist()
    [1.0, 0.0]
    """
    found: Tensor = _StraightThrough.apply(x, form)  # type: ignore[no-untyped-call]
    return found


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, form: Format) -> Tensor:
        low, high = form.limits()
        ctx.save_for_backward((x >= low) & (x <= high))
        return form.quantize(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None


def rounded(x: Tensor, rounding: Rounding) -> Tensor:
    """Return whole numbers.

    >>> [rounded(torch.tensor([-1.5, 0.5, 1.7]), how).tolist() for how in ("nearest", "floor", "zero")]
    [[-2.0, 0.0, 2.0], [-2.0, 0.0, 1.0], [-1.0, 0.0, 1.0]]
    """
    if rounding == "floor":
        return x.floor()
    return x.trunc() if rounding == "zero" else x.round()
