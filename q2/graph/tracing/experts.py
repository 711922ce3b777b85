"""The weight layers inside a mixture of experts, which is one node of the graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from q2.graph.layers import Geometry

__all__ = ["shared_evenly", "structure", "zero_weights"]


def shared_evenly(model: nn.Module, path: str, calls: Iterable[tuple[nn.Module, object]]) -> dict[str, int]:
    """Return the output elements that each weight layer below `path` computes, by name.

    `calls` are the modules that one run called, with their outputs. Who got the tokens in that run is chance: layers
    whose names differ in numbers alone share them evenly.
    """
    kinds: dict[nn.Module, tuple[str, tuple[int, ...]]] = {}
    names: dict[nn.Module, str] = {}
    for name, module in model.get_submodule(path).named_modules():
        geometry = Geometry.of(module)
        if geometry is not None:
            names[module] = f"{path}.{name}"
            kinds[module] = (re.sub(r"\d+", "", name), geometry.shape)
    total: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for module, output in calls:
        if module in kinds and isinstance(output, torch.Tensor):
            total[kinds[module]] += output.numel()
    alike = Counter(kinds.values())
    return {names[module]: total[kind] // alike[kind] for module, kind in kinds.items()}


def structure(module: nn.Module) -> tuple[object, ...]:
    """Describe what a module is made of: two alike compute outputs of one shape from inputs of one shape."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return type(module), module.training, *((name, tuple(tensor.shape)) for name, tensor in tensors)


def zero_weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return zeros of the same shapes, on the CPU, for a module's weights without data; unread, they use no memory."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {name: torch.zeros_like(tensor, device="cpu") for name, tensor in tensors if tensor.is_meta}
