"""Weight layers of a traced model, and the multiply-accumulates of its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

__all__ = ["WEIGHT_TYPES", "Geometry", "WeightLayer", "attention_macs", "layer_macs"]

WEIGHT_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Geometry:
    """What a weight layer computes: its kind, its weight's shape, and the groups of its channels."""

    type: str
    shape: tuple[int, ...]
    groups: int
    bias: bool

    @property
    def in_channels(self) -> int:
        """Input channels, of all groups together."""
        return self.shape[1] * self.groups

    @classmethod
    def of(cls, module: nn.Module) -> Geometry | None:
        """Read the geometry of a weight layer; None for any other module.

        >>> Geometry.of(nn.Conv2d(4, 8, 3, groups=2))
        Geometry(type='Conv2d', shape=(8, 2, 3, 3), groups=2, bias=True)
        """
        if isinstance(module, nn.Linear):
            return cls("Linear", (module.out_features, module.in_features), 1, module.bias is not None)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            base = next(kind for kind in WEIGHT_TYPES if isinstance(module, kind))
            shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            return cls(base.__name__, shape, module.groups, module.bias is not None)
        return None


@dataclass(frozen=True)
class WeightLayer:
    """One weight layer of a graph, however often it is called.

    `macs` counts the multiply-accumulates of all its calls, at the batch of the graph's example inputs.
    """

    name: str
    geometry: Geometry
    macs: int
    calls: int
    _model: nn.Module = field(repr=False, compare=False)

    @property
    def module(self) -> nn.Module:
        """The module that the model holds under this name now."""
        return self._model.get_submodule(self.name)

    @property
    def type(self) -> str:
        """`Linear`, `Conv1d`, `Conv2d` or `Conv3d`, also for subclasses and for what has replaced the layer."""
        return self.geometry.type

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight: output channels, input channels per group, kernel."""
        return self.geometry.shape

    @property
    def weights(self) -> int:
        """Number of weights, without the bias."""
        return math.prod(self.shape)

    @property
    def in_channels(self) -> int:
        """Input channels, of all groups together."""
        return self.geometry.in_channels

    @property
    def out_channels(self) -> int:
        """Output channels."""
        return self.shape[0]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Size of the kernel; empty for a Linear."""
        return self.shape[2:]

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for a Linear."""
        return self.geometry.groups

    @property
    def bias(self) -> bool:
        """Say whether the layer adds a bias."""
        return self.geometry.bias


def layer_macs(node: fx.Node, geometry: Geometry) -> int:
    """Count one call's multiply-accumulates: every output element is a dot product over input channels and kernel."""
    outputs = (leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, torch.Tensor))
    output = next(outputs, None)
    return 0 if output is None else output.numel() * math.prod(geometry.shape[1:])


def attention_macs(nodes: Iterable[fx.Node]) -> int:
    """Count the multiply-accumulates between activations: attention, matrix products, contractions."""
    return sum(counter(node) for node in nodes if (counter := _COUNTERS.get(_operation(node))) is not None)


def _operation(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def _argument(node: fx.Node, position: int, *names: str) -> Any:
    """The value of an argument, wherever the call put it."""
    given = node.args[position] if position < len(node.args) else None
    found = given if given is not None else next((node.kwargs[name] for name in names if name in node.kwargs), None)
    return fx.node.map_arg(found, lambda source: source.meta.get("val"))


def _attention(node: fx.Node) -> int:
    query, key, value = (_argument(node, i, name) for i, name in enumerate(("query", "key", "value")))
    rows = math.prod(query.shape[:-1])
    return int(rows * key.shape[-2] * (query.shape[-1] + value.shape[-1]))


def _product(first: int, *names: str) -> Callable[[fx.Node], int]:
    def count(node: fx.Node) -> int:
        left = _argument(node, first, *names)
        return int(node.meta["val"].numel() * left.shape[-1])

    return count


def _einsum(node: fx.Node) -> int:
    equation = str(node.args[0]).replace(" ", "")
    operands = _argument(node, 1, "operands")
    tensors = (
        list(operands)
        if isinstance(operands, (list, tuple))
        else [_argument(node, i) for i in range(1, len(node.args))]
    )
    inputs, _, output = equation.partition("->")
    if "->" not in equation or "." in equation or len(tensors) != 2:
        return 0
    left, right = inputs.split(",")
    contracted = (set(left) & set(right)) - set(output)
    sizes = dict(zip(left + right, (*tensors[0].shape, *tensors[1].shape), strict=True))
    return math.prod(sizes[label] for label in set(output) | contracted) if contracted else 0


_COUNTERS: dict[str, Callable[[fx.Node], int]] = {
    "scaled_dot_product_attention": _attention,
    "matmul": _product(0, "input", "tensor1"),
    "bmm": _product(0, "input"),
    "mm": _product(0, "input"),
    "baddbmm": _product(1, "batch1"),
    "addmm": _product(1, "mat1"),
    "einsum": _einsum,
}
