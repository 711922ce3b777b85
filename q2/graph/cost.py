"""The multiply-accumulates of a traced graph outside its weight layers: attention, products, norms, softmax."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import torch
from torch import fx, nn

from q2.graph.attention import find_attention
from q2.graph.operations import ATTENTION, operation

__all__ = ["NORM", "PRODUCTS", "SCORES", "SOFTMAX", "VALUES", "costs", "itemized"]

SCORES, VALUES, PRODUCT, NORM, SOFTMAX = "attention scores", "attention values", "other products", "norms", "softmax"
PRODUCTS = (SCORES, VALUES, PRODUCT)
_NORMS = frozenset({
    "layer_norm", "group_norm", "rms_norm", "batch_norm", "instance_norm",
    "LayerNorm", "GroupNorm", "RMSNorm", "BatchNorm1d", "BatchNorm2d", "BatchNorm3d",
})  # fmt: skip
_SOFTMAX = frozenset({"softmax", "Softmax"})


def costs(model: nn.Module, nodes: Iterable[fx.Node]) -> dict[str, int]:
    """Count multiply-accumulates by kind, at the shapes that were traced.

    Attention scores are Q·Kᵀ and attention values softmax·V, fused or written out; other products are between
    activations too. A norm takes one per element, and one more for a weight; softmax takes one per score.
    """
    found: Counter[str] = Counter(dict.fromkeys((*PRODUCTS, NORM, SOFTMAX), 0))
    for _, kind, macs in itemized(model, list(nodes)):
        found[kind] += macs
    return dict(found)


def itemized(model: nn.Module, nodes: Collection[fx.Node]) -> Iterator[tuple[fx.Node, str, int]]:
    """Yield node, kind and multiply-accumulates of what `costs` counts; a fused attention has three kinds."""
    attentions = find_attention(model, nodes)
    kinds = {node: SCORES for each in attentions for node in each.scores}
    kinds |= {node: VALUES for each in attentions for node in each.values}
    for node in nodes:
        name = operation(model, node)[0] if node.op.startswith("call") else ""
        if name == ATTENTION:
            yield from _fused(node)
        elif name in _COUNTERS:
            yield node, kinds.get(node, PRODUCT), _COUNTERS[name](node)
        elif name in _SOFTMAX:
            yield node, SOFTMAX, _numel(node)
        elif name in _NORMS:
            yield node, NORM, _numel(node) * (1 + _has_weight(model, node))
        elif name == "rsqrt":  # a norm written out: x · rsqrt(mean(x²) + ε)
            yield node, NORM, max((_numel(reader) for reader in node.users), default=0)


def _fused(node: fx.Node) -> Iterator[tuple[fx.Node, str, int]]:
    query, key, value = (_argument(node, i, name) for i, name in enumerate(("query", "key", "value")))
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    yield node, SCORES, scores * query.shape[-1]
    yield node, VALUES, scores * value.shape[-1]
    yield node, SOFTMAX, scores


def _has_weight(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return getattr(model.get_submodule(str(node.target)), "weight", None) is not None
    return any(source.op == "get_attr" for source in node.all_input_nodes)


def _numel(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, torch.Tensor) else 0


def _argument(node: fx.Node, position: int, *names: str) -> Any:
    """Return the value of an argument, passed by position or by keyword."""
    given = node.args[position] if position < len(node.args) else None
    found = given if given is not None else next((node.kwargs[name] for name in names if name in node.kwargs), None)
    return fx.node.map_arg(found, lambda source: source.meta.get("val"))


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
    "matmul": _product(0, "input", "tensor1"),
    "bmm": _product(0, "input"),
    "mm": _product(0, "input"),
    "baddbmm": _product(1, "batch1"),
    "addmm": _product(1, "mat1"),
    "einsum": _einsum,
}
