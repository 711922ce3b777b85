"""Compare q2's flow graph and units with a hand-written flow graph in JSON, and say which classes of edges differ.

    python benchmarks/compare_flow.py dit path/to/dit-flow.json

The file holds `nodes` (name, weight), `edges` (pairs of indices) and `units` (name to nodes). Edges are compared as
connections between weight layers: two layers are connected where only combines lie between them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import networkx as nx

import q2
from q2.graph import Graph


def connections(flow: nx.DiGraph[str], weights: set[str]) -> set[tuple[str, str]]:
    """Return the pairs of weight layers that are connected through combines alone."""
    found = set()
    for weight in weights:
        todo, seen = [weight], {weight}
        while todo:
            for target in flow.successors(todo.pop()):
                if target in weights:
                    found.add((weight, target))
                elif target not in seen:
                    seen.add(target)
                    todo.append(target)
    return found


def read(path: Path) -> tuple[nx.DiGraph[str], set[str], dict[str, frozenset[str]]]:
    """Return the graph in a file, its weight layers, and the weight layers of its units."""
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names = [ours(node["name"]) for node in table["nodes"]]
    weights = {ours(node["name"]) for node in table["nodes"] if node["weight"]}
    flow: nx.DiGraph[str] = nx.DiGraph()
    flow.add_nodes_from(names)
    flow.add_edges_from((names[source], names[target]) for source, target in table["edges"])
    units = {name: frozenset(weights.intersection(map(ours, unit["nodes"]))) for name, unit in table["units"].items()}
    return flow, weights, units


def ours(name: str) -> str:
    """Return a node's name as q2 spells it."""
    return re.sub(r"#split(\d)", r"#\1", name).replace("proj_out.", "proj_out_")


def kind(path: str) -> str:
    """Return a layer's path with its indices taken out: its class."""
    return re.sub(r"\.\d+", "", path)


def classes(pairs: set[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Count pairs by the classes of their ends."""
    return Counter((kind(source), kind(target)) for source, target in pairs)


def main() -> None:
    """Compare, as the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("denoiser", help="dit, sdxl, …: built on meta")
    options.add_argument("reference", type=Path)
    args = options.parse_args()
    denoiser = q2.denoiser(args.denoiser, weights="meta")
    compare(q2.trace(denoiser.model, denoiser.example_inputs()), args.reference)


def compare(graph: Graph, reference: Path) -> None:
    """Print the differences."""
    flow, weights, units = read(reference)
    own = graph.flow()
    mine = {name for name, data in own.nodes(data=True) if data["kind"] == "weight"}
    print(f"weight nodes: {len(mine)} here, {len(weights)} there; only there: {sorted(weights - mine)[:9]}")
    missing = Counter(kind(name) for name in mine - weights)
    print(f"only here: {dict(missing)}")
    here, there = connections(own, mine), connections(flow, weights)
    print(f"connections: {len(here & there)} agree, {len(here - there)} only here, {len(there - here)} only there")
    for title, pairs in (("only here", here - there), ("only there", there - here)):
        for (source, target), count in classes(pairs).most_common():
            print(f"  {title}  {count:5}  {source} → {target}")
    sets = {frozenset(unit.layers) & weights: unit.name for unit in graph.units()}
    differ = {name: layers for name, layers in units.items() if layers not in sets}
    print(f"units: {len(units)} there, {len(units) - len(differ)} with the same layers here")
    for name, layers in differ.items():
        near = max(sets, key=lambda held: len(held & layers))
        print(f"  {name}: only there {sorted(layers - near)}, only here ({sets[near]}) {sorted(near - layers)}")


if __name__ == "__main__":
    main()
