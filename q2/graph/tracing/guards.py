"""Guards: nodes that check, while a traced graph runs, the decisions that were taken while it was traced."""

from __future__ import annotations

import operator
from collections.abc import Sized

from torch import fx
from torch.fx.node import has_side_effect

from q2.errors import GuardError, TraceError

__all__ = [
    "check_guards",
    "guard",
    "guard_length",
    "guards_of",
    "is_guard",
    "is_impure",
    "writes_in_place",
]

_IN_PLACE_OPERATORS = frozenset(
    {
        operator.setitem,
        operator.delitem,
        operator.iadd,
        operator.isub,
        operator.imul,
        operator.imatmul,
        operator.itruediv,
        operator.ifloordiv,
        operator.imod,
        operator.ipow,
        operator.iand,
        operator.ior,
        operator.ixor,
        operator.ilshift,
        operator.irshift,
    }
)


@has_side_effect
def guard(value: object, expected: object) -> None:
    """Raise GuardError unless a value is what it was while tracing.

    >>> guard(64, 64)
    """
    if value != expected:
        raise GuardError(f"traced with {expected!r}, called with {value!r}")


@has_side_effect
def guard_length(value: Sized, expected: int) -> None:
    """Raise GuardError unless a value has as many items as while tracing.

    >>> guard_length((1, 2), 2)
    """
    if len(value) != expected:
        raise GuardError(f"traced with {expected} items, called with {len(value)}")


def is_guard(node: fx.Node) -> bool:
    """Return whether a node checks a decision."""
    return node.op == "call_function" and node.target in (guard, guard_length)


def writes_in_place(op: str, target: object, kwargs: object = ()) -> bool:
    """Return whether a call writes into one of its arguments: `x += y`, `x[i] = y`, `x.add_(y)`, `f(x, out=y)`.

    >>> writes_in_place("call_method", "add_"), writes_in_place("call_method", "add")
    (True, False)
    """
    if op not in ("call_function", "call_method"):
        return False
    if isinstance(kwargs, dict) and (kwargs.get("inplace") is True or kwargs.get("out") is not None):
        return True
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    named = name.endswith("_") and not name.endswith("__")
    return named or name == "__setitem__" or target in _IN_PLACE_OPERATORS


def is_impure(node: fx.Node) -> bool:
    """Return whether dead-code elimination must keep a node although nobody uses its output.

    `fx.Graph.eliminate_dead_code(is_impure_node=is_impure)` is the safe call on a traced graph; without this predicate
    it drops writes into tensors, and the model is silently wrong.
    """
    return bool(node.is_impure()) or is_guard(node) or writes_in_place(node.op, node.target, node.kwargs)


def guards_of(graph: fx.Graph) -> dict[str, object]:
    """Return what the guards of a graph expect, by the guard's name."""
    return {node.name: node.args[1] for node in graph.nodes if is_guard(node)}


def check_guards(before: dict[str, object], graph: fx.Graph, title: str) -> None:
    """Raise `TraceError` if a graph lacks one of the guards, or has one that expects something else."""
    now = guards_of(graph)
    for name, expected in before.items():
        if name not in now or now[name] != expected:
            raise TraceError(f"{title}: a rewrite lost the guard {name!r}, which checks what the trace decided")
