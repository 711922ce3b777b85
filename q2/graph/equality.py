"""Whether a graph gives what its model gives: outputs compared leaf by leaf."""

import torch
from torch.utils import _pytree as pytree

from q2.errors import TraceError

__all__ = ["check_equal", "has_no_data"]


def has_no_data(value: object) -> bool:
    """Return whether a value has a tensor on meta in it."""
    return any(isinstance(leaf, torch.Tensor) and leaf.is_meta for leaf in pytree.tree_leaves(value))


def check_equal(name: str, eager: object, traced: object, rtol: float) -> None:
    """Raise `TraceError`, with the model's `name`, for outputs that differ.

    `rtol` is relative to the largest value of an output; 0 asks for equality.
    """
    expected, structure = pytree.tree_flatten(eager)
    found, found_structure = pytree.tree_flatten(traced)
    if structure != found_structure:
        raise TraceError(f"graph of {name}: traced output has another structure than eager output")
    for index, (left, right) in enumerate(zip(expected, found, strict=True)):
        if not isinstance(left, torch.Tensor):
            if left != right:
                raise TraceError(f"graph of {name}: output {index} is {right!r}, eager {left!r}")
        elif left.shape != right.shape or left.dtype != right.dtype:
            shapes = f"{tuple(right.shape)} {right.dtype}, eager {tuple(left.shape)} {left.dtype}"
            raise TraceError(f"graph of {name}: output {index} is {shapes}")
        elif left.numel():
            atol = rtol * float(left.abs().max())
            if not torch.allclose(right, left, rtol=0, atol=atol, equal_nan=True):
                worst = float((right - left).abs().max())
                raise TraceError(f"graph of {name}: output {index} differs from eager by {worst:.3g}")
