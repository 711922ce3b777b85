"""Modules: the parts of graphs that nodes name as units, each scored alone, as AutoBuild (CVPR'24) labels subgraphs.

A module's score is in the target's unit: the L1 norm of its last node's embedding at the module's hops, on the module
alone, brought from the distribution of such norms over all nodes to that of the target over the graphs that have this
unit with so many hops (AutoBuild, Sec. 3.3). So modules of one unit compare, short ones and long.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from q2.errors import PredictorError, why
from q2.files import read_json, write_text
from q2.progress import Progress, silent
from q2.search.predictor.dataset import Floats, GraphSet, Ints, Topology, UnitNodes
from q2.search.predictor.train import node_norms
from q2.search.predictor.trained import Trained

__all__ = ["Module", "Modules", "score_modules", "unit_moments"]

_VERSION = 1
_CHUNK = 512
Features = Mapping[str, str | float]


@dataclass(frozen=True, eq=False)
class Module:
    """A unit as some graphs have it: its nodes' features, its edges (pairs of their places), and its score.

    `graphs` is how many graphs of the set have it; `scores` (folds,) are every fold's, in the target's unit.
    """

    unit: str
    hops: int
    nodes: tuple[Features, ...]
    edges: tuple[tuple[int, int], ...]
    graphs: int
    score: float
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Modules:
    """Every unit's modules, the highest score first, and the target that scores are of."""

    target: str
    units: Mapping[str, tuple[Module, ...]]

    def top(self, count: int) -> Modules:
        """Return the `count` best modules of every unit: a reduced space. 0 is all."""
        return Modules(self.target, {unit: found[: count or None] for unit, found in self.units.items()})

    def save(self, path: str | Path) -> None:
        """Write the modules as JSON (docs/predictor.md). Raises PredictorError."""
        units = {unit: [_plain(module) for module in found] for unit, found in self.units.items()}
        head = {"q2": "modules", "version": _VERSION, "target": self.target, "units": units}
        try:
            write_text(Path(path), json.dumps(head, indent=1) + "\n")
        except OSError as error:
            raise PredictorError(f"{path}: cannot be written: {why(error)}") from error

    @classmethod
    def load(cls, path: str | Path) -> Modules:
        """Read a file that `save` wrote. Raises PredictorError, one line, for one that is damaged or another."""
        try:
            head = read_json(Path(path))
        except (OSError, ValueError) as error:
            raise PredictorError(f"{path}: cannot be read: {why(error)}") from error
        if not isinstance(head, dict) or (head.get("q2"), head.get("version")) != ("modules", _VERSION):
            raise PredictorError(f"{path}: expected a file of modules, version {_VERSION}")
        try:
            units = {unit: tuple(_module(unit, entry) for entry in found) for unit, found in head["units"].items()}
            return cls(str(head["target"]), units)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PredictorError(f"{path}: damaged: {type(error).__name__} {error}") from error


def _plain(module: Module) -> dict[str, object]:
    return {key: value for key, value in vars(module).items() if key != "unit"}


def _module(unit: str, entry: Mapping[str, Any]) -> Module:
    nodes, edges = tuple(map(dict, entry["nodes"])), tuple((int(a), int(b)) for a, b in entry["edges"])
    numbers = int(entry["hops"]), nodes, edges, int(entry["graphs"]), float(entry["score"])
    return Module(unit, *numbers, tuple(map(float, entry["scores"])))


@dataclass(eq=False)
class _Found:
    """A module as it was met first: its place in the graphs, and which graphs have it."""

    unit: UnitNodes
    rows: Ints
    edges: Ints
    graphs: list[int] = field(default_factory=list)

    def topology(self) -> Topology:
        """Return the module as a graph of its own."""
        count = len(self.rows)
        return Topology(tuple(map(str, range(count))), self.edges, tuple(range(count)))


def _modules(graphs: GraphSet) -> list[_Found]:
    """Return the different modules of a set, in the order they are met."""
    found: dict[object, _Found] = {}
    pieces = {(i, unit.name): _edges(topology, unit) for i, topology in enumerate(graphs.topologies)
              for unit in topology.units}  # fmt: skip
    for i, which in enumerate(graphs.which.tolist()):
        for unit in graphs.topologies[which].units:
            rows, edges = graphs.rows[graphs.starts[i] + np.array(unit.nodes)], pieces[which, unit.name]
            key = (unit.name, graphs.codes[rows].tobytes(), graphs.values[rows].tobytes(), edges.tobytes())
            found.setdefault(key, _Found(unit, rows, edges)).graphs.append(i)
    return list(found.values())


def _edges(topology: Topology, unit: UnitNodes) -> Ints:
    """Return the edges among a unit's nodes (2, E), by their place in it, sorted."""
    place = {node: i for i, node in enumerate(unit.nodes)}
    pairs = sorted((place[a], place[b]) for a, b in topology.edges.T.tolist() if a in place and b in place)
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def unit_moments(graphs: GraphSet, y: Floats) -> dict[tuple[str, int], tuple[int, float, float]]:
    """Return number, mean and deviation of targets `y` (graphs,) by unit and its hops, in the units' order."""
    seen: dict[tuple[str, int], list[float]] = defaultdict(list)
    for which, value in zip(graphs.which.tolist(), y.tolist(), strict=True):
        for unit in graphs.topologies[which].units:
            seen[unit.name, unit.hops].append(value)
    order = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in seen))}
    keys = sorted(seen, key=lambda key: (order[key[0]], key[1]))
    return {key: (len(seen[key]), float(np.mean(seen[key])), float(np.std(seen[key]))) for key in keys}


def score_modules(graphs: GraphSet, trained: Trained, progress: Progress = silent) -> Modules:
    """Score every module of a graph set with the predictor that was trained on it.

    A module's score is the mean over the folds, each weighted as well as it ranks by that hop. Raises PredictorError
    for a set without units, and a predictor of other graphs.
    """
    found = _modules(graphs)
    if not found:
        raise PredictorError("graphs: no node names a 'unit': there are no modules to label")
    moments = unit_moments(graphs, graphs.metrics[trained.target])
    table = trained.table(graphs)
    alone = GraphSet(
        graphs.fields,
        graphs.numbers,
        graphs.codes,
        graphs.values,
        tuple(module.topology() for module in found),
        np.arange(len(found)),
        np.concatenate([module.rows for module in found]),
        {},
    )
    hops = np.array([module.unit.hops for module in found])
    lasts = alone.starts[:-1] + [module.unit.nodes.index(module.unit.last) for module in found]
    means, deviations = (np.array([moments[m.unit.name, m.unit.hops][k] for m in found]) for k in (1, 2))
    scores, weights = [], []
    for model, fold in progress(zip(trained.models(), trained.folds, strict=True), "scoring", len(trained.folds)):
        pieces = np.array_split(np.arange(len(found)), -(-len(found) // _CHUNK))
        norms = np.concatenate([node_norms(model, table, alone, piece) for piece in pieces])[lasts, hops]
        scores.append(means + deviations * (norms - fold.hop_means[hops]) / fold.hop_deviations[hops])
        weights.append(fold.hop_weights[hops])
    share = np.array(weights) / np.maximum(np.sum(weights, axis=0), np.finfo(np.float64).tiny)
    totals = (np.array(scores) * share).sum(0)
    units: dict[str, list[Module]] = {}
    for i, module in enumerate(found):
        nodes = tuple(graphs.features(row) for row in module.rows.tolist())
        edges = tuple((a, b) for a, b in module.edges.T.tolist())
        own = tuple(float(column[i]) for column in scores)
        listed = units.setdefault(module.unit.name, [])
        listed.append(Module(module.unit.name, int(hops[i]), nodes, edges, len(module.graphs), float(totals[i]), own))
    return Modules(trained.target, {unit: tuple(sorted(own, key=lambda m: -m.score)) for unit, own in units.items()})
