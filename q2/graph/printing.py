"""The graph as text for people: a line for every node, with what it calls, what comes out, and the facts about it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from q2.graph.facts import Fact
from q2.graph.graph import Graph
from q2.graph.naming import node_op
from q2.graph.scopes import scope

__all__ = ["facts_text", "graph_text", "node_text"]

_LONGEST = 60


def graph_text(graph: Graph, changed: Collection[Fact[Any]] = ()) -> str:
    """Return a graph as lines: its size and facts, then its nodes in order, as they are executed (rewrites included).

    A node is ``%name = operation(arguments) : dtype[shape]``; behind it come, in braces, the module that it calls, as
    it is now, and in brackets the facts about that layer. Comments name the module whose forward made the nodes below.
    `changed` facts have a ``+``.

    >>> from torch import nn
    >>> from q2.graph import trace
    >>> print(graph_text(trace(nn.Sequential(nn.Linear(4, 2)), {"input": torch.zeros(3, 4)})))
    # graph of Sequential: 3 nodes, 1 weight layers, 8 weights
    %input_1 = placeholder() : float32[3, 4]
    %_0 = linear(%input_1) : float32[3, 2] {0: Linear(in_features=4, out_features=2, bias=True)}
    output(%_0)
    """
    nodes = graph.executed()
    weights = sum(layer.weights for layer in graph.weight_layers.values())
    counts = f"{len(nodes.nodes)} nodes, {len(graph.weight_layers)} weight layers, {weights} weights"
    paths = f", {graph.variants} traced paths (this is the first)" if graph.variants > 1 else ""
    head = [f"# graph of {type(graph.model).__name__}: {counts}{paths}"]
    head += [f"# facts: {', '.join(found)}"] if (found := facts_text(graph, changed)) else []
    head += [f"# transforms so far: {', '.join(graph.facts.transforms)}"] if graph.facts.transforms else []
    head += [f"# rewrites, which the nodes below include: {', '.join(graph.rewrites)}"] if graph.rewrites else []
    return "\n".join([*head, *_lines(graph, nodes, changed)])


def node_text(graph: Graph, node: fx.Node) -> str:
    """Return the line of a node, without facts."""
    arguments = [_shown(each) for each in node.args] + [f"{key}={_shown(each)}" for key, each in node.kwargs.items()]
    if node.op == "get_attr":
        return f"%{node.name} = {node.target}{_value(node)}"
    made = "" if node.op == "output" else f"%{node.name} = "
    module = f" {{{node.target}: {_module(graph, node)}}}" if node.op == "call_module" else ""
    return f"{made}{node_op(graph.model, node)}({', '.join(arguments)}){_value(node)}{module}"


def facts_text(graph: Graph, changed: Collection[Fact[Any]] = ()) -> list[str]:
    """Return the facts that passes have set, each with its pass and options, those `changed` with a ``+``."""
    origins = {fact: graph.facts.origin(fact) for fact in graph.facts}
    return [
        f"{'+' if fact in changed else ''}{fact.name} by {origin}"
        for fact, origin in origins.items()
        if origin and origin.step
    ]


def _lines(graph: Graph, nodes: fx.Graph, changed: Collection[Fact[Any]]) -> Iterator[str]:
    about = _facts_by_layer(graph, changed)
    place = ""
    for node in nodes.nodes:
        here = scope(node)
        if node.op == "call_module" and here == str(node.target):
            here = here.rpartition(".")[0]
        if here != place and node.op not in ("placeholder", "output"):
            place = here
            yield f"# {place}" if place else "# the model's own forward"
        found = about.get(str(node.target), []) if node.op == "call_module" else []
        yield node_text(graph, node) + (f" [{', '.join(found)}]" if found else "")


def _facts_by_layer(graph: Graph, changed: Collection[Fact[Any]]) -> dict[str, list[str]]:
    """Return for every name that is a key of facts what these are called; ``path#1`` counts as ``path``."""
    found: dict[str, list[str]] = {}
    for fact in graph.facts:
        value, origin = graph.facts.get(fact), graph.facts.origin(fact)
        if isinstance(value, Mapping) and origin and origin.step:
            named = f"{'+' if fact in changed else ''}{fact.name}"
            for name in dict.fromkeys(str(key).partition("#")[0] for key in value):
                found.setdefault(name, []).append(named)
    return found


def _module(graph: Graph, node: fx.Node) -> str:
    module = graph.model.get_submodule(str(node.target))
    text = str(module)
    return text if "\n" not in text else type(module).__name__


def _value(node: fx.Node) -> str:
    if "val" not in node.meta or node.op == "output":
        return ""
    value = node.meta["val"]
    leaves = pytree.tree_leaves(value)
    if value is None or not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        return f" : {_constant(value)}"
    if isinstance(value, torch.Tensor):
        return f" : {_tensor(value)}"
    return f" : ({', '.join(_tensor(leaf) if isinstance(leaf, torch.Tensor) else _constant(leaf) for leaf in leaves)})"


def _tensor(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}[{', '.join(map(str, tensor.shape))}]"


def _shown(value: Any) -> str:
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_shown(each)}' for key, each in value.items())}}}"
    if isinstance(value, slice):
        ends = [value.start, value.stop] + ([] if value.step is None else [value.step])
        return ":".join("" if end is None else _shown(end) for end in ends)
    return _constant(value)


def _constant(value: object) -> str:
    """Return a constant in a line, cut where it is long, without addresses, which differ from run to run."""
    text = re.sub(
        r" at 0x[0-9a-f]+", "", " ".join(str(value if isinstance(value, torch.dtype) else repr(value)).split())
    )
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
