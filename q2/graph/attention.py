"""Attention in a traced graph: fused, or written out as matmul, softmax and matmul."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn

from q2.errors import TraceError
from q2.graph import operations as ops
from q2.graph.scopes import scope

__all__ = ["Attention", "find_attention", "labels_of", "leads_to"]

_SOFTMAX = frozenset({"softmax", "Softmax"})
_PRODUCTS = ops.MATMUL | {"addmm"}


@dataclass(frozen=True)
class Attention:
    """One attention: the nodes that compute Q·Kᵀ, the softmax, and softmax·V; the same one where they are fused.

    `name` is the path of the module whose forward computes it. Written out, `scores` or `values` may be missing.
    """

    name: str
    scores: tuple[fx.Node, ...]
    softmax: fx.Node
    values: tuple[fx.Node, ...]

    @property
    def is_fused(self) -> bool:
        """Return whether it is one call of `scaled_dot_product_attention`."""
        return self.scores == self.values


def find_attention(model: nn.Module, nodes: Iterable[fx.Node]) -> list[Attention]:
    """Return every softmax between products, and every fused attention, in execution order."""
    names = {node: ops.operation(model, node)[0] for node in nodes if node.op.startswith("call")}
    products = {node for node, name in names.items() if name in _PRODUCTS}
    found: list[Attention] = []
    for node, name in names.items():
        if name == ops.ATTENTION:
            found.append(Attention(scope(node), (node,), node, (node,)))
        elif name in _SOFTMAX:
            values = _after(node, products)
            scores = _before(node, products - {node for other in found for node in other.values})
            if scores or values:
                found.append(Attention(scope(node), tuple(scores), node, tuple(values)))
    return found


def labels_of(product: fx.Node) -> tuple[dict[int, str], str]:
    """Return what names the last dimensions of a product's two operands, by their place, and of its output.

    As in ``einsum``: those of ``matmul`` are ``ik``, ``kj`` and ``ij``. Raises TraceError where the operands are not
    two positional tensors.
    """
    name = str(getattr(product.target, "__name__", product.target))
    equation = str(product.args[0]).replace(" ", "").replace("...", "") if name == "einsum" else "ik,kj->ij"
    given, _, out = equation.partition("->")
    first = int(name in ("einsum", "baddbmm", "addmm"))
    operands = product.args[first : first + 2]
    if len(operands) < 2 or not all(isinstance(each, fx.Node) for each in operands) or given.count(",") != 1:
        raise TraceError(f"attention at {scope(product)!r}: cannot tell the two operands of its {name} apart")
    left, right = given.split(",")
    return {first: left, first + 1: right}, out


def leads_to(source: fx.Node, node: object) -> bool:
    """Return whether `node` is `source`, but for dropout, dtype and layout."""
    while node is not source and isinstance(node, fx.Node):
        inputs = [given for given in node.all_input_nodes if ops.carries(given)]
        node = inputs[0] if len(inputs) == 1 else None
    return node is source


def _before(softmax: fx.Node, products: set[fx.Node]) -> list[fx.Node]:
    """Return the products that a softmax reads, through scales, masks and changes of layout."""
    found, todo, seen = [], list(softmax.all_input_nodes), set(softmax.all_input_nodes)
    while todo:
        node = todo.pop()
        if node in products:
            found.append(node)
        elif node.op != "call_module" and any(_numel(source) == _numel(node) > 0 for source in node.all_input_nodes):
            todo += [source for source in node.all_input_nodes if source not in seen]
            seen.update(node.all_input_nodes)
    return found


def _after(softmax: fx.Node, products: set[fx.Node]) -> list[fx.Node]:
    """Return the products that read a softmax, through dropout and changes of dtype or layout."""
    found, todo = [], [softmax]
    while todo:
        node = todo.pop()
        for reader in node.users:
            if reader in products:
                found.append(reader)
            elif ops.carries(reader) and [source for source in reader.all_input_nodes if ops.carries(source)] == [node]:
                todo.append(reader)
    return found


def _numel(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, torch.Tensor) else 0
