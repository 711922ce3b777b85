"""The part of a flow graph around a set of layers: a last node, and all nodes upstream within some hops."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import networkx as nx

__all__ = ["Neighbourhood", "around"]


@dataclass(frozen=True)
class Neighbourhood:
    """Distances to `last` of everything up to the first nodes outside, and the `hops` that cover the layers.

    `foreign` are layers of others within `hops`, with their distances.
    """

    last: str
    hops: int
    distance: dict[str, int]
    nodes: tuple[str, ...]
    foreign: dict[str, int]


def around(flow: nx.DiGraph[str], layers: set[str], split: Collection[str]) -> Neighbourhood:
    """Measure the neighbourhood of `layers` (flow nodes of kind weight).

    The last node is a layer that all others reach, else the first node that all reach. The walk upstream goes on from
    the layers and from combines between them; it ends at other combines, at foreign layers, and at `split` layers,
    whose inputs are parts of a concat.
    """

    def order(node: str) -> int:
        return int(flow.nodes[node]["order"])

    below = {layer: nx.descendants(flow, layer) | {layer} for layer in layers}
    common = set.intersection(*below.values())
    last = min(common & layers or common, key=order) if common else max(layers, key=order)
    between = set().union(*below.values()) & (nx.ancestors(flow, last) | {last})
    inner = {node for node in between if flow.nodes[node]["kind"] == "combine"} | (layers - set(split))
    distance, todo = {last: 0}, [last]
    for node in todo:
        for source in flow.predecessors(node) if node in inner else ():
            if source not in distance:
                distance[source] = distance[node] + 1
                todo.append(source)
    hops = max(distance.get(layer, 0) for layer in layers)
    nodes = tuple(node for node, hop in distance.items() if hop <= hops)
    foreign = {node: distance[node] for node in nodes if flow.nodes[node]["kind"] == "weight" and node not in layers}
    return Neighbourhood(last, hops, distance, nodes, foreign)
