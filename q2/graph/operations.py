"""What the nodes of a traced graph do, by name: how a flow of values passes through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

__all__ = ["ADD", "ATTENTION", "CLEAR", "CONCAT", "MATMUL", "META", "MUL", "VIEWS", "argument", "carries", "operation"]

ATTENTION = "scaled_dot_product_attention"
CONCAT = frozenset({"cat", "concat", "concatenate"})
MATMUL = frozenset({"matmul", "bmm", "baddbmm", "einsum", "mm"})
ADD = frozenset({"add", "iadd", "sub", "isub", "rsub", "addcmul", "lerp"})
MUL = frozenset({"mul", "imul", "truediv", "itruediv", "div", "multiply"})
VIEWS = frozenset({
    "getitem", "view", "reshape", "unsqueeze", "squeeze", "transpose", "permute", "narrow", "flatten",
})  # fmt: skip
META = frozenset({"to", "type_as", "expand_as", "view_as", "reshape_as"})  # of the other arguments they read no value
CLEAR = ADD | MUL | VIEWS | META | frozenset({
    "float", "half", "type", "unflatten", "movedim", "contiguous", "clone", "expand", "repeat", "repeat_interleave",
    "pad", "chunk", "split", "split_with_sizes", "tensor_split", "unbind", "neg", "dropout", "Dropout", "Identity",
})  # fmt: skip
"""Arithmetic, shape and dtype: a flow is still itself afterwards; a norm or an activation makes another of it."""

_IN_PLACE = frozenset({"setitem", "iadd", "isub", "imul", "itruediv"})


def operation(model: nn.Module, node: fx.Node) -> tuple[str, bool]:
    """Return the name of what a node does, and whether it writes to its first argument.

    A leaf module is named by its class, `add_` and `+=` by `add` and `iadd`.
    """
    if node.op == "call_module":
        return type(model.get_submodule(str(node.target))).__name__, False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    if name.endswith("_") and not name.endswith("__"):
        return name[:-1], True
    return name, name in _IN_PLACE


def carries(node: fx.Node) -> bool:
    """Return whether a node's value holds floating-point numbers; indices, masks, shapes and None are no flow."""
    leaves = pytree.tree_leaves(node.meta.get("val"))
    return any(isinstance(leaf, torch.Tensor) and (leaf.is_floating_point() or leaf.is_complex()) for leaf in leaves)


def argument(node: fx.Node, position: int, name: str, default: Any = None) -> Any:
    """Return a call's argument, passed by position or by keyword, with its nodes as they are.

    >>> graph = fx.Graph()
    >>> x = graph.placeholder("x")
    >>> argument(graph.call_function(torch.cat, ([x, x],), {"dim": 2}), 1, "dim")
    2
    """
    return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)
