"""Graph sets: the plain input of the predictor, from any denoiser's trials or from anyone's graphs.

Every node of every graph refers to a row of one table of features. Trials of one denoiser share a topology, and a
weight layer's rows are its options, so the table stays small however many trials there are.
"""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from q2.errors import PredictorError, why
from q2.files import parse_json, read_json, replacing

__all__ = ["GraphSet", "Layout", "Topology", "UnitNodes", "shared_topologies", "unit_nodes"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_VERSION = 1
MOST_HOPS = 4  # the layers of the network: no embedding sees farther
_UNIT, _NAME = "unit", "name"
_DAMAGED = (
    *(ValueError, TypeError, KeyError, AttributeError, EOFError, OverflowError, MemoryError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)
"""What NumPy and zipfile raise for files that are damaged, claim impossible sizes, or are packed in ways unknown."""


@dataclass(frozen=True)
class UnitNodes:
    """A unit by node indices: its weight layers, all nodes that show it, the last of them, and its hops.

    `kind` is the type of unit that plots group by (``attn1``, ``ff``).
    """

    name: str
    kind: str
    layers: tuple[int, ...]
    nodes: tuple[int, ...]
    last: int
    hops: int


@dataclass(frozen=True, eq=False)
class Topology:
    """Nodes, edges of shape (2, E) from source to target, which nodes are weight layers, and the units."""

    nodes: tuple[str, ...]
    edges: Ints
    weights: tuple[int, ...]
    units: tuple[UnitNodes, ...] = ()

    def __post_init__(self) -> None:
        used = [*self.edges.flatten().tolist(), *self.weights]
        used += [node for unit in self.units for node in (*unit.layers, *unit.nodes, unit.last)]
        if self.edges.ndim != 2 or len(self.edges) != 2 or any(not 0 <= node < len(self.nodes) for node in used):
            raise PredictorError(f"a graph of {len(self.nodes)} nodes has an edge or unit with a node outside of it")

    def pool(self, hop: int) -> Ints:
        """Return the nodes whose embeddings are averaged at a hop (Qua²SeDiMo, Sec. 4).

        All weight layers at hop 0; the last nodes of the units with so many hops; all nodes where there is no such.
        """
        found = self.weights if hop == 0 else tuple(unit.last for unit in self.units if unit.hops == hop)
        return np.asarray(found or range(len(self.nodes)), dtype=np.int64)

    def head(self) -> dict[str, object]:
        """Return everything but the edges as plain values for JSON."""
        return {"nodes": self.nodes, "weights": self.weights, "units": [vars(unit) for unit in self.units]}

    @classmethod
    def of_head(cls, head: Mapping[str, Any], edges: Ints) -> Topology:
        """Return the topology of which `head` gave this. Raises PredictorError, KeyError, TypeError."""
        units = tuple(
            UnitNodes(u["name"], u["kind"], tuple(u["layers"]), tuple(u["nodes"]), u["last"], u["hops"])
            for u in head["units"]
        )
        read = [number for unit in units for number in (*unit.layers, *unit.nodes, unit.last, unit.hops)]
        if not all(isinstance(number, int) for number in (*head["weights"], *read)):
            raise PredictorError("a node of a unit, or a unit's hops, is no whole number")
        return cls(tuple(head["nodes"]), edges, tuple(head["weights"]), units)


def shared_topologies(topologies: Sequence[Topology]) -> tuple[tuple[Topology, ...], Ints]:
    """Return the different ones of some topologies, and for each of these (T,) which of them it is."""
    places: dict[object, int] = {}
    found: list[Topology] = []
    which = []
    for one in topologies:
        key = (one.nodes, one.edges.tobytes(), one.weights, one.units)
        if key not in places:
            places[key] = len(found)
            found.append(one)
        which.append(places[key])
    return tuple(found), np.array(which, dtype=np.int64)


def unit_nodes(name: str, members: Sequence[int], edges: Ints) -> UnitNodes:
    """Return a unit of some nodes of a graph with `edges` (2, E).

    Its last node is the one that most of the others reach, the later of two; its hops are the largest distance to it.
    """
    sources: dict[int, list[int]] = {node: [] for node in members}
    for source, target in edges.T.tolist():
        if source in sources and target in sources:
            sources[target].append(source)

    def distances(end: int) -> dict[int, int]:
        found, order = {end: 0}, [end]
        for node in order:
            for source in sources[node]:
                if source not in found:
                    found[source] = found[node] + 1
                    order.append(source)
        return found

    last = max(members, key=lambda node: (len(distances(node)), node))
    hops = min(max(distances(last).values()), MOST_HOPS)
    return UnitNodes(name, name, tuple(members), tuple(members), last, hops)


@dataclass(frozen=True, eq=False)
class Layout:
    """Some graphs side by side: `copies` of one set of `nodes` nodes and of its `edges`.

    `rows` (copies · nodes) are rows of the feature table; `pools` say for each hop which nodes are averaged, into
    which graph, and how many a graph has.
    """

    rows: Ints
    copies: int
    nodes: int
    edges: Ints
    pools: tuple[tuple[Ints, Ints, Floats], ...]


@dataclass(frozen=True, eq=False)
class GraphSet:
    """Graphs with metrics. `fields` are the categorical features and their values, `numbers` names the numeric ones.

    `codes` (R, fields) and `values` (R, numbers) are the table of features; `rows` are the table's rows of all nodes,
    graph after graph; `which` (T,) is each graph's topology; `metrics` have shape (T,). Raises PredictorError where
    these do not fit together.
    """

    fields: Mapping[str, tuple[str, ...]]
    numbers: tuple[str, ...]
    codes: Ints
    values: Floats
    topologies: tuple[Topology, ...]
    which: Ints
    rows: Ints
    metrics: Mapping[str, Floats]

    def __post_init__(self) -> None:
        if not self.topologies or not len(self):
            raise PredictorError("a graph set without graphs")
        if not all(np.issubdtype(each.dtype, np.integer) for each in (self.which, self.rows, self.codes)):
            raise PredictorError("which, rows, codes: expected whole numbers")
        if not all(isinstance(text, str) for values in (*self.fields.values(), self.numbers) for text in values):
            raise PredictorError("fields, numbers: expected texts")
        if self.which.ndim != 1 or self.rows.ndim != 1:
            raise PredictorError(f"which, rows: expected a list each, found {self.which.shape} and {self.rows.shape}")
        if np.any(self.which < 0) or np.any(self.which >= len(self.topologies)):
            raise PredictorError(f"a graph names a topology outside 0 to {len(self.topologies) - 1}")
        if self.codes.shape[1:] != (len(self.fields),) or self.values.shape != (len(self.codes), len(self.numbers)):
            raise PredictorError(f"features: {self.codes.shape} codes and {self.values.shape} numbers do not fit")
        if any(np.any((c < 0) | (c >= len(v))) for c, v in zip(self.codes.T, self.fields.values(), strict=True)):
            raise PredictorError("features: a code is outside of its field's values")
        if not np.isfinite(self.values).all():
            raise PredictorError("features: a numeric feature is NaN or infinite")
        if len(self.rows) != self.starts[-1] or np.any((self.rows < 0) | (self.rows >= len(self.codes))):
            raise PredictorError(f"rows: expected {self.starts[-1]} rows of the table, found {len(self.rows)}")
        for name, metric in self.metrics.items():
            if metric.shape != (len(self),):
                raise PredictorError(f"metric {name!r}: expected {len(self)} numbers, found shape {metric.shape}")

    def __len__(self) -> int:
        return len(self.which)

    @cached_property
    def starts(self) -> Ints:
        """Where each graph's nodes start in `rows`, and the end."""
        sizes = np.array([len(topology.nodes) for topology in self.topologies])
        return np.concatenate([[0], np.cumsum(sizes[self.which])])

    def features(self, row: int) -> dict[str, str | float]:
        """Return a row of the table as plain values."""
        codes = zip(self.fields.items(), self.codes[row].tolist(), strict=True)
        texts: dict[str, str | float] = {name: values[code] for (name, values), code in codes}
        return texts | dict(zip(self.numbers, self.values[row].tolist(), strict=True))

    def hops(self, layers: int) -> tuple[int, ...]:
        """Return the hops that some unit has, hop 0 with them; all up to `layers` where there are no units."""
        found = {unit.hops for topology in self.topologies for unit in topology.units if unit.hops <= layers}
        return tuple(sorted(found | {0})) if found else tuple(range(layers + 1))

    def layout(self, chosen: Sequence[int] | Ints, layers: int) -> Layout:
        """Lay the graphs `chosen` side by side: copies of one topology, or one graph of many parts."""
        chosen = np.asarray(chosen, dtype=np.int64)
        which = self.which[chosen]
        rows = np.concatenate([self.rows[self.starts[i] : self.starts[i + 1]] for i in chosen])
        shared = len(set(which.tolist())) == 1
        parts = [self.topologies[i] for i in which]
        starts = np.cumsum([0, *(len(part.nodes) for part in parts)])
        edges = parts[0].edges if shared else np.hstack([p.edges + s for p, s in zip(parts, starts, strict=False)])
        pools = []
        for hop in range(layers + 1):
            own = {i: self._pool(i, hop) for i in set(which.tolist())}
            nodes = np.concatenate([own[i] + start for i, start in zip(which.tolist(), starts, strict=False)])
            counts = np.array([len(own[i]) for i in which.tolist()])
            pools.append((nodes, np.repeat(np.arange(len(chosen)), counts), counts.astype(np.float64)))
        copies = len(chosen) if shared else 1
        return Layout(rows, copies, len(rows) // copies, edges, tuple(pools))

    def _pool(self, which: int, hop: int) -> Ints:
        """Return the nodes of a topology that are averaged at a hop: all, where some graph has no unit of so many."""
        topology = self.topologies[which]
        whole = hop > 0 and hop not in self._common_hops
        return np.arange(len(topology.nodes)) if whole else topology.pool(hop)

    @cached_property
    def _common_hops(self) -> set[int]:
        """The hops that every topology has a unit of."""
        return set.intersection(*({unit.hops for unit in topology.units} for topology in self.topologies))

    @classmethod
    def of(cls, graphs: Iterable[Mapping[str, Any]]) -> GraphSet:
        """Make a set of graphs of any topology from plain values, as in the JSON format (docs/predictor.md).

        A graph has ``nodes`` (a list of features by name: text is categorical, a number numeric), ``edges`` (pairs of
        node indices) and ``metrics``. ``unit`` and ``name`` are no features: nodes of one unit are a module, and names
        are shown in pictures. Raises PredictorError, with the index of the graph.

        >>> nodes = [{"op": "conv", "width": 8}, {"op": "pool", "width": 8}]
        >>> made = GraphSet.of([{"nodes": nodes, "edges": [[0, 1]], "metrics": {"accuracy": 0.9}}])
        >>> made.fields, made.numbers
        ({'op': ('conv', 'pool')}, ('width',))
        """
        listed = list(graphs)
        try:
            nodes = [_features(node) for graph in listed for node in graph["nodes"]]
            texts = list(dict.fromkeys(key for node in nodes for key, value in node.items() if isinstance(value, str)))
            numbers = list(dict.fromkeys(key for node in nodes for key in node if key not in texts))
            fields = {key: tuple(dict.fromkeys(str(node[key]) for node in nodes)) for key in texts}
            places = {key: {value: i for i, value in enumerate(values)} for key, values in fields.items()}
            codes = [[places[key][str(node[key])] for key in texts] for node in nodes]
            values = [[float(node[key]) for key in numbers] for node in nodes]
            topologies, which = shared_topologies([_topology(graph) for graph in listed])
            names = list(listed[0]["metrics"]) if listed else []
            metrics = {name: np.array([float(graph["metrics"][name]) for graph in listed]) for name in names}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PredictorError(f"graphs: malformed, {type(error).__name__} at {error}") from error
        table = np.array(codes, dtype=np.int64).reshape(len(nodes), len(texts))
        floats = np.array(values, dtype=np.float64).reshape(len(nodes), len(numbers))
        return cls(fields, tuple(numbers), table, floats, topologies, which, np.arange(len(nodes)), metrics)

    @classmethod
    def read_json(cls, path: str | Path) -> GraphSet:
        """Read graphs from a JSON file ``{"graphs": [...]}``; see `of`. Raises PredictorError with the file."""
        try:
            return cls.of(read_json(Path(path))["graphs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PredictorError(f"{path}: no file of graphs: {error}") from error
        except PredictorError as error:
            raise PredictorError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write the set as one npz file (docs/predictor.md), without pickle. Raises PredictorError."""
        head = {
            "q2": "graphs",
            "version": _VERSION,
            "fields": self.fields,
            "numbers": self.numbers,
            "metrics": list(self.metrics),
            "topologies": [topology.head() for topology in self.topologies],
        }
        arrays = {"codes": self.codes, "values": self.values, "which": self.which, "rows": self.rows}
        arrays |= {f"edges.{i}": topology.edges for i, topology in enumerate(self.topologies)}
        arrays |= {f"metric.{i}": metric for i, metric in enumerate(self.metrics.values())}
        save_npz(path, head, arrays)

    @classmethod
    def load(cls, path: str | Path) -> GraphSet:
        """Read a file that `save` wrote. Raises PredictorError, one line, for a file that is damaged or another."""
        head, arrays = load_npz(path, "graphs", _VERSION)
        try:
            topologies = tuple(Topology.of_head(t, arrays[f"edges.{i}"]) for i, t in enumerate(head["topologies"]))
            fields = {key: tuple(values) for key, values in head["fields"].items()}
            table = (arrays["codes"], arrays["values"], topologies, arrays["which"], arrays["rows"])
            metrics = {name: arrays[f"metric.{i}"] for i, name in enumerate(head["metrics"])}
            return cls(fields, tuple(head["numbers"]), *table, metrics)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PredictorError(f"{path}: damaged: {type(error).__name__} {error}") from error
        except PredictorError as error:
            raise PredictorError(f"{path}: damaged: {error}") from error


def _features(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in (_UNIT, _NAME)}


def _topology(graph: Mapping[str, Any]) -> Topology:
    """Return the topology of a plain graph. Raises KeyError, TypeError, ValueError, PredictorError."""
    nodes = graph["nodes"]
    edges = np.array(graph["edges"], dtype=np.int64).reshape(-1, 2).T
    names = tuple(str(node.get(_NAME, i)) for i, node in enumerate(nodes))
    alone = Topology(names, edges, tuple(range(len(nodes))))  # says which edge is wrong
    members: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        if node.get(_UNIT) is not None:
            members.setdefault(str(node[_UNIT]), []).append(i)
    units = tuple(unit_nodes(name, own, edges) for name, own in members.items())
    return Topology(names, edges, alone.weights, units)


def save_npz(path: str | Path, head: Mapping[str, object], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays of any shape and a JSON head as one npz file, whole or not at all. Raises `PredictorError`."""
    try:
        with replacing(Path(path)) as beside, beside.open("wb") as file:
            every: dict[str, Any] = {**arrays, "head": np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)}
            np.savez_compressed(file, **every)
    except OSError as error:
        raise PredictorError(f"{path}: cannot be written: {why(error)}") from error


def load_npz(path: str | Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return the head and the arrays, in their shapes, that `save_npz` wrote.

    Raises `PredictorError` for a head of another `kind` or `version`.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as npz:
            arrays = {name: npz[name] for name in npz.files}
        head = parse_json(arrays.pop("head").tobytes())
    except (*_DAMAGED, OSError) as error:
        raise PredictorError(f"{path}: cannot be read: {why(error)}") from error
    if not isinstance(head, dict) or (head.get("q2"), head.get("version")) != (kind, version):
        raise PredictorError(f"{path}: expected a file of {kind}, version {version}")
    return head, arrays
