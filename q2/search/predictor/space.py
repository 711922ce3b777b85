"""The space of one denoiser's recipes: its flow graph, its choices, and what each option costs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from q2.errors import PredictorError, did_you_mean
from q2.quant.options import Option
from q2.search.predictor.dataset import Bools, Floats, GraphSet, Ints, Topology, UnitNodes, load_npz, save_npz
from q2.search.predictor.provenance import Provenance

if TYPE_CHECKING:
    import networkx as nx

    from q2.graph.flow.units import Unit

__all__ = ["COMBINE", "NodeSpace"]

COMBINE = "combine"
FULL_BITS = 16
_VERSION = 1
_ARRAYS = ("choice", "bits", "weights", "codes", "values", "first", "allowed")
SIZE, ERROR = "100·full/quantized size", "100·error"


@dataclass(frozen=True, eq=False)
class NodeSpace:
    """The choices of a denoiser: flow nodes of kind weight, where copies (ties) follow the first of them.

    `choice` (N,) is the choice that a node follows, -1 for a combine; `bits` and `errors` (choices, options) are an
    option's exact size and error; `weights` (choices,) the number of weights. The table of features has a row for
    every node and option, and one for a combine; `first` (N,) is a node's first row. `allowed` (choices, options) says
    which options a recipe may take; trials may hold others.

    `sums` are what every option adds (choices, options) to metrics that are sums over layers, by name, and `constants`
    what every recipe has of them; a space that was made without knows ``avg_bits`` alone (`tables`). `made` says what
    trials the space is of.
    """

    options: tuple[str, ...]
    choices: tuple[str, ...]
    choice: Ints
    bits: Floats
    weights: Floats
    errors: Floats | None
    topology: Topology
    fields: Mapping[str, tuple[str, ...]]
    numbers: tuple[str, ...]
    codes: Ints
    values: Floats
    first: Ints
    allowed: Bools
    sums: Mapping[str, Floats] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    made: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Raise PredictorError where the arrays do not fit the names, or each other."""
        nodes, table = len(self.topology.nodes), (len(self.choices), len(self.options))
        shapes: dict[str, tuple[npt.NDArray[Any], tuple[int, ...]]] = {
            "choice": (self.choice, (nodes,)),
            "first": (self.first, (nodes,)),
            "bits": (self.bits, table),
            "weights": (self.weights, table[:1]),
            "allowed": (self.allowed, table),
            "codes": (self.codes, (len(self.codes) if self.codes.ndim else 0, len(self.fields))),
            "values": (self.values, (len(self.codes) if self.codes.ndim else 0, len(self.numbers))),
            **({} if self.errors is None else {"errors": (self.errors, table)}),
            **{f"sums.{name}": (array, table) for name, array in self.sums.items()},
        }
        for name, (array, expected) in shapes.items():
            if array.shape != expected or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
                raise PredictorError(f"{name}: expected the shape {expected}, found {array.shape} of {array.dtype}")
        texts = (*self.options, *self.choices, *self.topology.nodes)
        if not all(isinstance(text, str) for text in texts):
            raise PredictorError("options, choices, nodes: expected texts")
        if not (np.isfinite(self.weights).all() and (self.weights >= 1).all()):
            raise PredictorError("weights: expected 1 or more for every choice")
        for name in ("choice", "first", "codes"):
            if not np.issubdtype(getattr(self, name).dtype, np.integer):
                raise PredictorError(f"{name}: expected whole numbers")
        if nodes and not -1 <= self.choice.min() <= self.choice.max() < len(self.choices):
            raise PredictorError(f"choice: a node follows a choice outside 0 to {len(self.choices) - 1}")
        last = self.first + np.where(self.choice >= 0, len(self.options) - 1, 0)
        if nodes and not 0 <= self.first.min() <= last.max() < len(self.codes):
            raise PredictorError(f"first: a node's rows are outside of the table's {len(self.codes)}")

    @classmethod
    def from_flow(
        cls,
        flow: nx.DiGraph[str],
        units: Sequence[Unit],
        options: Sequence[str],
        *,
        sizes: Mapping[str, Mapping[str, float]],
        weights: Mapping[str, int],
        errors: Mapping[str, Mapping[str, float]] | None = None,
        ties: Iterable[Collection[str]] = (),
        allowed: Mapping[str, Collection[str]] | None = None,
    ) -> NodeSpace:
        """Make the space of a flow graph (`Graph.flow`, `Graph.units`).

        By node of kind weight: `sizes` are an option's bits, codebooks and scales included, `weights` the number of
        weights, `errors` an option's quantization error. `ties` are groups of weight layers that share one choice;
        `allowed` are the options that recipes may take, for the choices that may not take all.
        Raises PredictorError for a layer or option without a size or error, and fewer than two options.
        """
        names = list(flow)
        index = {name: i for i, name in enumerate(names)}
        leaders = _leaders(flow, ties)
        choices = tuple(dict.fromkeys(leaders.values()))
        place = {name: i for i, name in enumerate(choices)}
        if len(set(options)) < 2 or len(set(options)) < len(options):
            raise PredictorError(f"options: expected two or more different ones, found {', '.join(options) or 'none'}")
        bits = _matrix("sizes", sizes, choices, options)
        wrong = None if errors is None else _matrix("errors", errors, choices, options)
        counts = np.array([float(weights.get(name, 0)) for name in choices])
        if not choices or counts.min() <= 0 or bits.min() <= 0:
            raise PredictorError("sizes: every weight layer needs weights and a size above 0")
        choice = np.array([place[leaders[name]] if name in leaders else -1 for name in names])
        topology = Topology(
            tuple(names),
            np.array([[index[a] for a, _ in flow.edges], [index[b] for _, b in flow.edges]]).reshape(2, -1),
            tuple(i for i, name in enumerate(names) if name in leaders),
            tuple(_nodes_of(unit, index) for unit in units),
        )
        fields, codes = _codes(flow, options)
        first = np.cumsum([0, *(len(options) if name in leaders else 1 for name in names[:-1])])
        values = np.zeros((len(codes), 1 if wrong is None else 2))
        for node in topology.weights:
            rows, own = slice(first[node], first[node] + len(options)), choice[node]
            values[rows, 0] = 100 * FULL_BITS * counts[own] / bits[own]
            if wrong is not None:
                values[rows, 1] = 100 * wrong[own]
        numbers = (SIZE,) if wrong is None else (SIZE, ERROR)
        table = (fields, numbers, codes, values, first)
        free = [[option in (allowed or {}).get(name, options) for option in options] for name in choices]
        return cls(tuple(options), choices, choice, bits, counts, wrong, topology, *table, np.array(free))

    def encode(self, trials: Iterable[Mapping[str, object]]) -> Ints:
        """Return option indices, of shape (trials, choices), of options (or their text) by layer.

        A layer that the space splits may be given once, under its path. Raises PredictorError, one line, for a layer
        that is missing or not in this denoiser, for an unknown option, and for copies that differ.
        """
        place = {option: i for i, option in enumerate(self.options)}
        nodes = {self.topology.nodes[node]: int(self.choice[node]) for node in self.topology.weights}
        found = []
        for number, trial in enumerate(trials):
            row = np.full(len(self.choices), -1)
            for name, option in trial.items():
                if name not in nodes:
                    raise PredictorError(
                        f"trial {number}: no layer {name!r} in this denoiser{did_you_mean(name, nodes)}"
                    )
                if str(option) not in place:
                    known = f"{', '.join(self.options)}"
                    raise PredictorError(f"trial {number}: {name!r} has option {str(option)!r}, expected {known}")
                if row[nodes[name]] not in (-1, place[str(option)]):
                    raise PredictorError(f"trial {number}: {name!r} is a copy, but has another option than its like")
                row[nodes[name]] = place[str(option)]
            for i, name in enumerate(self.choices):
                whole = name.partition("#")[0]
                row[i] = row[nodes[whole]] if row[i] < 0 and whole in nodes else row[i]
            if row.min() < 0:
                raise PredictorError(f"trial {number}: layer {self.choices[int(row.argmin())]!r} is missing")
            found.append(row)
        return np.array(found, dtype=np.int64).reshape(-1, len(self.choices))

    def rows(self, chosen: Ints) -> Ints:
        """Return the table's rows, of shape (trials, nodes), of option indices of shape (trials, choices)."""
        options = np.where(self.choice >= 0, chosen[:, self.choice], 0)
        return self.first + options

    def graphs(self, chosen: Ints, metrics: Mapping[str, Sequence[float] | Floats]) -> GraphSet:
        """Return the graph set of trials: `chosen` (trials, choices), as from `encode`, and their metrics (trials,).

        Raises `PredictorError` for options that do not fit the space.
        """
        if chosen.ndim != 2 or chosen.shape[1] != len(self.choices):
            raise PredictorError(f"trials: expected (trials, {len(self.choices)}) options, found {chosen.shape}")
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self.options):
            raise PredictorError(f"trials: an option is outside 0 to {len(self.options) - 1}")
        which = np.zeros(len(chosen), dtype=np.int64)
        floats = {name: np.asarray(metric, dtype=np.float64) for name, metric in metrics.items()}
        table = (self.fields, self.numbers, self.codes, self.values)
        return GraphSet(*table, (self.topology,), which, self.rows(chosen).reshape(-1), floats)

    def avg_bits(self, chosen: Ints) -> Floats:
        """Return the bits of a weight, of shape (trials,); copies count once."""
        picked = self.bits[np.arange(len(self.choices)), chosen]
        return np.asarray(picked.sum(1) / self.weights.sum())

    @property
    def tables(self) -> Mapping[str, Floats]:
        """What every option adds (choices, options) to the sums over layers that recipes are built within, by name."""
        return self.sums or {"avg_bits": self.bits / self.weights.sum()}

    def layers(self, chosen: Ints) -> dict[str, str]:
        """Return the option of every weight layer, copies too, in execution order, of option numbers (choices,)."""
        nodes = self.topology.nodes
        return {nodes[i]: self.options[int(chosen[self.choice[i]])] for i in self.topology.weights}

    def save(self, path: str | Path) -> None:
        """Write the space as one npz file, without pickle. Raises PredictorError."""
        head = {
            "q2": "space",
            "version": _VERSION,
            "options": self.options,
            "choices": self.choices,
            "fields": self.fields,
            "numbers": self.numbers,
            "topology": self.topology.head(),
            "constants": {name: self.constants.get(name, 0.0) for name in self.sums},
            "made": self.made.head(),
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS} | {"edges": self.topology.edges}
        arrays |= {f"sums.{name}": table for name, table in self.sums.items()}
        save_npz(path, head, arrays | ({} if self.errors is None else {"errors": self.errors}))

    @classmethod
    def load(cls, path: str | Path) -> NodeSpace:
        """Read a file that `save` wrote. Raises PredictorError, one line, for one that is damaged or another."""
        head, arrays = load_npz(path, "space", _VERSION)
        try:
            constants = {str(name): float(value) for name, value in head.get("constants", {}).items()}
            return cls(
                options=tuple(head["options"]),
                choices=tuple(head["choices"]),
                errors=arrays.get("errors"),
                topology=Topology.of_head(head["topology"], arrays["edges"]),
                fields={key: tuple(values) for key, values in head["fields"].items()},
                numbers=tuple(head["numbers"]),
                sums={name: arrays[f"sums.{name}"] for name in constants},
                constants=constants,
                made=Provenance.of_head(head.get("made", {})),
                **{name: arrays[name] for name in _ARRAYS},
            )
        except (KeyError, TypeError, ValueError, AttributeError, PredictorError) as error:
            raise PredictorError(f"{path}: damaged: {type(error).__name__} {error}") from error


def _leaders(flow: nx.DiGraph[str], ties: Iterable[Collection[str]]) -> dict[str, str]:
    """Return for every node of kind weight the one whose choice it follows."""
    first = {path: group[0] for group in map(list, ties) for path in group}
    by_place: dict[tuple[str, int], str] = {}
    leaders = {}
    for name, data in flow.nodes(data=True):
        if data["kind"] == "weight":
            key = (first.get(data["layer"], data["layer"]), data["part"])
            leaders[name] = by_place.setdefault(key, name)
    return leaders


def _matrix(
    title: str, table: Mapping[str, Mapping[str, float]], choices: Sequence[str], options: Sequence[str]
) -> Floats:
    for name in choices:
        missing = [option for option in options if option not in table.get(name, {})]
        if missing:
            raise PredictorError(f"{title}: none for option {missing[0]!r} of layer {name!r}")
    return np.array([[float(table[name][option]) for option in options] for name in choices])


def _codes(flow: nx.DiGraph[str], options: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], Ints]:
    """Return the categorical features' values, and the codes of every row: of a node with each of its options."""
    parsed = [Option.parse(option) for option in options]
    rows: list[tuple[str, ...]] = []
    for _, data in flow.nodes(data=True):
        where = (data["stage"], str(data["block"]), str(data["transformer"]), data["role"])
        if data["kind"] == "weight":
            rows += [(option.quantizer, str(option.bits), *where) for option in parsed]
        else:
            rows.append((COMBINE, "0", *where))
    names = ("method", "bits", "stage", "block", "transformer", "role")
    columns = list(zip(*rows, strict=True))
    fields = {name: tuple(dict.fromkeys(column)) for name, column in zip(names, columns, strict=True)}
    codes = [[values.index(text) for text in column] for values, column in zip(fields.values(), columns, strict=True)]
    return fields, np.array(codes, dtype=np.int64).T.copy()


def _nodes_of(unit: Unit, index: Mapping[str, int]) -> UnitNodes:
    kind = ".".join(part for part in unit.name.split(".") if not part.isdigit()).rpartition(".")[2]
    layers, nodes = (tuple(index[name] for name in names) for names in (unit.layers, unit.nodes))
    return UnitNodes(unit.name, kind, layers, nodes, index[unit.last], unit.hops)
