"""The weight layers inside a mixture of experts, which is one node of the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from q2.graph.layers import WEIGHT_TYPES

__all__ = ["shared_evenly"]


def shared_evenly(model: nn.Module, path: str, calls: Iterable[tuple[nn.Module, object]]) -> dict[str, int]:
    """Return the output elements that each weight layer below `path` computes, by name.

    `calls` are the modules that one run called, with their outputs. Who got the tokens in that run is chance: layers
    of one shape share them evenly.
    """
    names = {
        module: f"{path}.{name}" for name, module in model.get_submodule(path).named_modules() if _is_layer(module)
    }
    shapes = {module: tuple(module.weight.shape) for module in names if isinstance(module, WEIGHT_TYPES)}
    total: Counter[tuple[int, ...]] = Counter()
    for module, output in calls:
        if module in shapes and isinstance(output, torch.Tensor):
            total[shapes[module]] += output.numel()
    alike = Counter(shapes.values())
    return {name: total[shapes[module]] // alike[shapes[module]] for module, name in names.items()}


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, WEIGHT_TYPES)
