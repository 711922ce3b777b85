"""Units: the weight layers of a flow graph partitioned into pieces that are chosen together.

A unit is one attention, one feed-forward, one ResBlock, one embedder: found by module hierarchy and flow, no model's
name in it. Compare AutoBuild (CVPR'24) and Qua²SeDiMo (AAAI'25), where every unit is written by hand.
"""

from __future__ import annotations

import os.path
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import networkx as nx
from torch import nn

from q2.errors import ConfigError
from q2.graph.flow.neighbourhood import Neighbourhood, around

__all__ = ["Unit", "find_units"]

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


@dataclass(frozen=True)
class Unit:
    """A named set of weight layers, and the piece of the flow graph that shows them.

    `layers` are the unit's flow nodes of kind weight, in execution order; `nodes` all within `hops` steps upstream of
    `last`: the unit's layers, its combines, and the combines that it reads from.
    """

    name: str
    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    last: str
    hops: int


def find_units(
    flow: nx.DiGraph[str],
    model: nn.Module,
    patterns: Mapping[str, str] | None = None,
    ties: Iterable[Collection[str]] = (),
) -> list[Unit]:
    r"""Partition the weight layers into units, in execution order.

    `patterns` override the rule: layers whose path matches a regular expression form the units that the template beside
    it names (``\1`` for the first group). `ties` are groups of layers that share one choice: units whose layers are
    copies of another unit's join it. Raises ConfigError for a pattern that is malformed or matches no layer.
    """
    partition = _Partition(flow, model)
    fixed = partition.fix(patterns or {})
    partition.join_modulations()
    partition.join_meetings()
    return _tied(flow, list(partition.settle(fixed)), ties)


class _Partition:
    """Which unit each layer belongs to, by path; starts from the module hierarchy."""

    def __init__(self, flow: nx.DiGraph[str], model: nn.Module) -> None:
        self.flow = flow
        self.model = model
        self.parts: dict[str, list[str]] = defaultdict(list)
        for name, data in flow.nodes(data=True):
            if data["kind"] == "weight":
                self.parts[data["layer"]].append(name)
        self.unit = self._cells()
        self.fixed: frozenset[str] = frozenset()

    def _cells(self) -> dict[str, str]:
        """Put layers of the lowest module that holds two or more together, if it holds no smaller such module."""
        held = Counter(module for path in self.parts for module in _above(path))
        owner = {
            path: next((m for m in _above(path) if held[m] > 1 and not self._is_container(m)), "")
            for path in self.parts
        }
        owned = Counter(owner.values())
        return {path: cell if cell and owned[cell] == held[cell] else path for path, cell in owner.items()}

    def _is_container(self, path: str) -> bool:
        return isinstance(self.model.get_submodule(path), _CONTAINERS)

    def fix(self, patterns: Mapping[str, str]) -> frozenset[str]:
        """Let patterns name units; their layers stay where they are from then on."""
        named: dict[str, str] = {}
        for pattern, template in patterns.items():
            try:
                found = {path: match for path in self.parts if (match := re.search(pattern, path))}
                named |= {path: match.expand(template) for path, match in found.items() if path not in named}
            except (re.error, IndexError) as error:
                raise ConfigError(f"units: {pattern!r} → {template!r}: {error}") from error
            if not found:
                raise ConfigError(f"units: no layer matches {pattern!r}")
        self.unit |= named
        self.fixed = frozenset(named)
        return frozenset(named.values())

    def _join(self, old: str, new: str) -> None:
        for path, name in self.unit.items():
            if name == old and path not in self.fixed:
                self.unit[path] = new

    def join_modulations(self) -> None:
        """Put a lone modulation layer into the first unit that it modulates, or its producer's if it serves several."""
        flow = self.flow
        for path in [path for path in self.parts if self.unit[path] == path and path not in self.fixed]:
            norms = [c for c in flow.successors(path) if flow.nodes[c].get("op") == "adaln" and flow[path][c]["mod"]]
            if not norms:
                continue
            norms.sort(key=self._order)
            near = nx.descendants(flow, norms[0]) if self._one_place(norms) else set(flow.predecessors(path))
            weights = [name for name in near if flow.nodes[name]["kind"] == "weight"]
            if weights:
                nearest = min(weights, key=self._order)
                self._join(path, self.unit[flow.nodes[nearest]["layer"]])

    def _one_place(self, norms: list[str]) -> bool:
        """Return whether adaptive norms lie within one block."""
        if len(norms) == 1:
            return True
        common = os.path.commonpath([name.replace(".", "/") for name in norms]).replace("/", ".")
        return bool(common) and not self._is_container(common)

    def join_meetings(self) -> None:
        """Make one unit of those whose outputs meet in one sum or concat and go nowhere else (time + pooled text)."""
        for name, data in self.flow.nodes(data=True):
            if data.get("op") not in ("add", "concat"):
                continue
            sources = list(self.flow.predecessors(name))
            if all(self.flow.nodes[s]["kind"] == "weight" and self.flow.out_degree(s) == 1 for s in sources):
                first, *others = (self.flow.nodes[source]["layer"] for source in sources)
                for path in others:
                    self._join(self.unit[path], self.unit[first])

    def settle(self, fixed: Collection[str]) -> Iterator[Unit]:
        """Measure every unit; it takes in a lone layer found inside it, and is cut where another unit begins."""
        groups: dict[str, list[str]] = defaultdict(list)
        for path in self.parts:
            groups[self.unit[path]].append(path)
        done: list[tuple[str, list[str]]] = []
        todo = sorted(groups.items(), key=self._start)
        tried: set[frozenset[str]] = set()  # taking in and cutting could go on forever between two units
        while todo:
            name, paths = todo.pop(0)
            area = self._around(paths)
            new = frozenset(paths) not in tried
            tried.add(frozenset(paths))
            if area.foreign and len(paths) > 1 and name not in fixed and new:
                strangers = {self.flow.nodes[node]["layer"] for node in area.foreign}
                lone = [g for g in (*todo, *done) if len(g[1]) == 1 and g[1][0] in strangers and g[0] not in fixed]
                todo, done = ([g for g in groups if g not in lone] for groups in (todo, done))
                paths = [path for _, (path,) in lone] + paths
                edge = min((hop for node, hop in area.foreign.items() if self._layer(node) not in paths), default=None)
                rest = [p for p in paths if edge is not None and self._hop(area, p) >= edge]
                if rest and len(rest) < len(paths):
                    todo[:0] = [(name, [p for p in paths if p not in rest]), (f"{name}.in", rest)]
                    continue
            done.append((name, paths))
        for name, paths in sorted(done, key=self._start):
            area = self._around(paths)
            layers = sorted((node for path in paths for node in self.parts[path]), key=self._order)
            yield Unit(name, tuple(layers), tuple(sorted(area.nodes, key=self._order)), area.last, area.hops)

    def _around(self, paths: list[str]) -> Neighbourhood:
        mine = {node for path in paths for node in self.parts[path]}
        split = {node for node in mine if len(self.parts[self._layer(node)]) > 1}
        return around(self.flow, mine, split)

    def _layer(self, node: str) -> str:
        return str(self.flow.nodes[node]["layer"])

    def _hop(self, area: Neighbourhood, path: str) -> int:
        return min(area.distance.get(node, 0) for node in self.parts[path])

    def _order(self, node: str) -> int:
        return int(self.flow.nodes[node]["order"])

    def _start(self, group: tuple[str, list[str]]) -> int:
        return self._order(self.parts[group[1][0]][0])


def _above(path: str) -> list[str]:
    """Return the modules that hold `path`, from its parent up."""
    return [path.rsplit(".", i)[0] for i in range(1, path.count(".") + 1)]


def _tied(flow: nx.DiGraph[str], units: list[Unit], ties: Iterable[Collection[str]]) -> list[Unit]:
    """Join units whose layers are copies of another's to that one."""
    first = {path: group[0] for group in map(list, ties) for path in group}
    merged: dict[tuple[tuple[str, int], ...], Unit] = {}
    for unit in units:
        places = [(flow.nodes[node]["layer"], flow.nodes[node]["part"]) for node in unit.layers]
        key = tuple((first.get(path, path), part) for path, part in places)
        there = merged.get(key)
        merged[key] = (
            unit if there is None else Unit(there.name, there.layers + unit.layers, there.nodes, there.last, there.hops)
        )
    return list(merged.values())
