"""The second half of the contraction: merge combines that are one step, tell what they are, and name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import networkx as nx
from torch import nn

from q2.graph.scopes import Scopes

__all__ = ["connect", "tidy"]

_PLAIN = frozenset({"add", "mul", "adaln"})


def tidy(graph: nx.DiGraph[str], ends: Collection[str], model: nn.Module) -> nx.DiGraph[str]:
    """Return the flow graph with its public attributes and names; `graph` is consumed.

    Attributes of a node: ``kind``, ``op`` (of a combine), ``layer`` and ``part`` and ``channels`` (of a weight),
    ``stage``, ``block``, ``transformer``, ``role``, ``order``; of an edge: ``mod``.
    """
    combines = [name for name, data in graph.nodes(data=True) if data["kind"] == "combine"]
    for name in reversed(combines):
        if not graph.out_degree(name) and name not in ends:
            graph.remove_node(name)  # such as a concat that only split layers read
    for name in combines:
        if name in graph and name not in ends:
            _merge(graph, name)
    for name in combines:
        if name in graph and graph.nodes[name]["op"] in _PLAIN:
            graph.nodes[name]["op"] = _meaning(graph, name)
    names = _names(graph)
    places = Scopes(model)
    for _, data in graph.nodes(data=True):
        path = str(data.pop("scope", "") or data.get("layer", ""))
        data.pop("ops", None)
        place = places.of(path)
        combine = data["kind"] == "combine"
        role = ".".join(part for part in (place.role, data["op"]) if part) if combine else place.role
        data |= {"stage": place.stage, "block": place.block, "transformer": place.transformer, "role": role}
    for *_, data in graph.edges(data=True):
        del data["clear"]
    renamed: nx.DiGraph[str] = nx.relabel_nodes(graph, names)
    return renamed


def connect(graph: nx.DiGraph[str], source: str, target: str, *, clear: bool, mod: bool) -> None:
    """Add an edge; where there is one, it is clear, or a modulation, only if both are."""
    old = graph.get_edge_data(source, target, {"clear": True, "mod": True})
    if source != target:
        graph.add_edge(source, target, clear=clear and old["clear"], mod=mod and old["mod"])


def _merge(graph: nx.DiGraph[str], name: str) -> None:
    """Merge an add or mul into the next one where that is its only reader: gate · y + x, norm(x) · (1 + s) + t."""
    after = list(graph.successors(name))
    if graph.nodes[name]["op"] not in _PLAIN or len(after) != 1:
        return
    (reader,) = after
    if graph.nodes[reader].get("op") not in _PLAIN or not graph[name][reader]["clear"]:
        return
    for source, _, edge in list(graph.in_edges(name, data=True)):
        connect(graph, source, reader, clear=edge["clear"], mod=edge["mod"])
    graph.nodes[reader]["ops"] |= graph.nodes[name]["ops"]
    graph.remove_node(name)


def _meaning(graph: nx.DiGraph[str], name: str) -> str:
    """Return the kind of a sum or product: an adaptive norm if all full-size operands are normed and another is not."""
    edges = [edge for *_, edge in graph.in_edges(name, data=True)]
    full = [edge["clear"] for edge in edges if not edge["mod"]]
    if full and len(full) < len(edges) and not any(full):
        return "adaln"
    return "add" if graph.nodes[name]["ops"] - {"mul"} else "mul"


def _names(graph: nx.DiGraph[str]) -> dict[str, str]:
    """Name combines by scope and operation, numbered where there are several."""
    names: dict[str, str] = {}
    seen = Counter(name for name, data in graph.nodes(data=True) if data["kind"] == "weight")
    for name, data in graph.nodes(data=True):
        if data["kind"] == "combine":
            base = f"{data['scope']}.{data['op']}".lstrip(".")
            chosen = base
            while seen[chosen]:
                chosen = f"{base}_{seen[base]}"
                seen[base] += 1
            seen[chosen] += 1
            names[name] = chosen
    return names
