"""Quantization to a number format that lets gradients through."""

from typing import Any

import torch
from torch import Tensor

from q2.quant.formats.base import Format

__all__ = ["fake_quantize"]


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
