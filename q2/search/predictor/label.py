"""Labelling: the score of every option of every layer, and of every variant of every unit.

A unit's variant is scored on the unit alone: the L1 norm of its last node's embedding at the unit's hops (Qua²SeDiMo,
AAAI'25, Sec. 4). What a node holds after a layer depends on the choices within so many hops upstream, so it is computed
once for every combination of those instead of once for every variant; the values are those of one graph a variant.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from q2.errors import PredictorError
from q2.progress import Progress, silent
from q2.search.predictor.attention import Messages, Neighbours, gather, send
from q2.search.predictor.dataset import Floats, Ints, UnitNodes, load_npz, save_npz
from q2.search.predictor.model import LAYERS, HopNetwork, Table
from q2.search.predictor.provenance import BY_LABEL, Provenance
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.trained import Trained

if TYPE_CHECKING:
    from torch_geometric.nn import GATv2Conv

__all__ = ["MAX_VARIANTS", "Labels", "UnitScores", "label", "score_variants"]

MAX_VARIANTS = 10**6
FROM_SEARCH = "by a search:"
"""What `Labels.made` begins with where a search made them of its trials."""
_BEAM = 4096
_CHUNK = 1024  # copies of a unit's graph at a time
_VERSION = 1


@dataclass(frozen=True, eq=False)
class UnitScores:
    """Scores of a unit's variants: option indices (V, choices) and scores (V, folds), weighted and normalized by fold.

    `complete` unless the unit has more than a million variants: then these are what a beam search found.
    """

    name: str
    kind: str
    choices: tuple[str, ...]
    variants: Ints
    scores: Floats
    complete: bool

    def check(self, labels: Labels) -> None:
        """Raise PredictorError where the arrays do not fit the unit's choices, or these not the labels'."""
        if not isinstance(self.name, str) or not isinstance(self.kind, str):
            raise PredictorError(f"units: expected name and kind as text, not {self.name!r}, {self.kind!r}")
        if not set(self.choices) <= set(labels.choices):
            raise PredictorError(f"unit {self.name!r}: a layer of it has no labels")
        rows, folds = len(self.variants), labels.nodes.shape[2]
        if not rows or self.variants.shape != (rows, len(self.choices)) or self.scores.shape != (rows, folds):
            shapes = f"{self.variants.shape} and {self.scores.shape}"
            raise PredictorError(f"unit {self.name!r}: variants and scores of shape {shapes} do not fit")
        if not np.isfinite(self.scores).all():
            raise PredictorError(f"unit {self.name!r}: a score is NaN or infinite")
        if self.variants.size and not 0 <= self.variants.min() <= self.variants.max() < len(labels.options):
            raise PredictorError(f"unit {self.name!r}: a variant has an option outside 0 to {len(labels.options) - 1}")

    @property
    def best(self) -> dict[str, int]:
        """The option index of every choice in the variant with the highest summed score."""
        best = self.variants[int(self.scores.sum(1).argmax())]
        return dict(zip(self.choices, best.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Labels:
    """A predictor's scores: `nodes` (choices, options, folds), scores of layers alone, and all units' variants.

    An option that a choice may not take has the score NaN, and is in no variant. `made` says how they came about.
    """

    options: tuple[str, ...]
    choices: tuple[str, ...]
    nodes: Floats
    units: tuple[UnitScores, ...]
    made: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        """Raise PredictorError where the arrays do not fit the names."""
        if not all(isinstance(name, str) for name in (*self.options, *self.choices)):
            raise PredictorError("options, choices: expected texts")
        if self.nodes.ndim != 3 or self.nodes.shape[:2] != (len(self.choices), len(self.options)):
            expected = f"({len(self.choices)}, {len(self.options)}, folds)"
            raise PredictorError(f"nodes: expected the shape {expected}, found {self.nodes.shape}")
        if not (np.issubdtype(self.nodes.dtype, np.floating) and self.nodes.size) or np.isinf(self.nodes).any():
            raise PredictorError(f"nodes: expected finite scores, found {self.nodes.size} of {self.nodes.dtype}")
        if np.isnan(self.nodes).all(axis=1).any():
            raise PredictorError("nodes: a layer has no option with a score")
        for unit in self.units:
            unit.check(self)

    def __repr__(self) -> str:
        from q2.search.predictor.tables import sensitivity_tables

        variants = sum(len(unit.variants) for unit in self.units)
        title = f"{len(self.choices)} layers with {len(self.options)} options, {variants:,} variants of"
        return "\n\n".join(map(str, (f"{title} {len(self.units)} units", *sensitivity_tables(self))))

    def sensitivity(self) -> Floats:
        """Return how much a choice matters to each fold: the spread of its node scores (choices, folds)."""
        return np.asarray(np.nanmax(self.nodes, axis=1) - np.nanmin(self.nodes, axis=1))

    def save(self, path: str | Path) -> None:
        """Write the labels as one npz file, without pickle. Raises PredictorError."""
        units = [{"name": u.name, "kind": u.kind, "choices": u.choices, "complete": u.complete} for u in self.units]
        head = {"q2": "labels", "version": _VERSION, "options": self.options, "choices": self.choices, "units": units}
        head |= {"made": self.made.head()}
        arrays = {"nodes": self.nodes}
        for i, unit in enumerate(self.units):
            arrays |= {f"variants.{i}": unit.variants.astype(np.uint8), f"scores.{i}": unit.scores.astype(np.float32)}
        save_npz(path, head, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Labels:
        """Read a file that `save` wrote. Raises PredictorError, one line, for one that is damaged or another."""
        head, arrays = load_npz(path, "labels", _VERSION)
        try:
            units = tuple(
                UnitScores(
                    unit["name"],
                    unit["kind"],
                    tuple(unit["choices"]),
                    arrays[f"variants.{i}"].astype(np.int64, casting="safe"),
                    _float64(arrays[f"scores.{i}"]),
                    bool(unit["complete"]),
                )
                for i, unit in enumerate(head["units"])
            )
            made = Provenance.of_head(head.get("made", {}))
            return cls(tuple(head["options"]), tuple(head["choices"]), arrays["nodes"], units, made)
        except (KeyError, TypeError, ValueError, AttributeError, PredictorError) as error:
            raise PredictorError(f"{path}: damaged: {type(error).__name__} {error}") from error


def _float64(values: Floats) -> Floats:
    """Return a file's values in float64; what is no number stays none, without NumPy's warning."""
    with np.errstate(invalid="ignore", over="ignore"):
        return values.astype(np.float64, casting="same_kind")


def label(space: NodeSpace, trained: Trained, progress: Progress = silent, max_variants: int = MAX_VARIANTS) -> Labels:
    """Score all options of every choice and all variants of every unit with every fold's predictor.

    Raises PredictorError for a predictor of another denoiser.
    """
    scorers = [_Scorer(space, *parts) for parts in _parts(space, trained)]
    nodes = np.stack([scorer.nodes() for scorer in scorers], axis=-1)
    nodes[~space.allowed] = np.nan
    units = []
    for unit in progress(space.topology.units, "scoring variants", len(space.topology.units)):
        own = _choices(space, unit)
        free = [np.flatnonzero(space.allowed[choice]).tolist() for choice in own]
        complete = math.prod(map(len, free)) <= max_variants
        if len(space.options) ** len(own) <= max_variants:
            every = itertools.product(range(len(space.options)), repeat=len(own))
            variants = np.array(list(every), dtype=np.int64)
            kept = space.allowed[own, variants].all(1)
            variants = variants[kept]
            scores = np.stack([scorer.all_variants(unit)[kept] for scorer in scorers], axis=-1)
        else:
            every = itertools.product(*free)
            variants = np.array(list(every)) if complete else _beam(space, unit, scorers, np.nansum(nodes, axis=-1))
            scores = np.stack([scorer.variants(unit, variants) for scorer in scorers], axis=-1)
        names = tuple(space.choices[i] for i in own)
        units.append(UnitScores(unit.name, unit.kind, names, variants, scores, complete))
    training = trained.training
    networks = replace(space.made, by=BY_LABEL, target=trained.target, scores="networks", level="unit")
    made = replace(networks, loss=training.loss, folds=training.folds)
    return Labels(space.options, space.choices, nodes, tuple(units), made)


def score_variants(space: NodeSpace, trained: Trained, unit: UnitNodes, variants: Ints) -> Floats:
    """Return the scores (V, folds) of some of a unit's variants (V, choices), each as a graph of its own."""
    return np.stack([_Scorer(space, *parts).variants(unit, variants) for parts in _parts(space, trained)], axis=-1)


def _parts(space: NodeSpace, trained: Trained) -> list[tuple[HopNetwork, Table, tuple[Floats, Floats, Floats]]]:
    """Return network, table, and mean, deviation and weight of every hop, for every fold."""
    table = trained.table(space)
    scales = [(fold.hop_means, fold.hop_deviations, fold.hop_weights) for fold in trained.folds]
    return [(model, table, scale) for model, scale in zip(trained.models(), scales, strict=True)]


def _choices(space: NodeSpace, unit: UnitNodes) -> list[int]:
    """Return the choices of a unit, in the order of its layers; copies count once."""
    return list(dict.fromkeys(space.choice[list(unit.layers)].tolist()))


class _Scorer:
    """One fold's predictor on the units of a space; `scale` is mean, deviation and weight of every hop."""

    def __init__(self, space: NodeSpace, model: HopNetwork, table: Table, scale: tuple[Floats, Floats, Floats]) -> None:
        self.space, self.model, self.scale = space, model.eval(), scale
        with torch.no_grad():
            self.embedded = model.embedding(table.codes, table.values)

    def _score(self, norms: Tensor, hop: int) -> Floats:
        mean, deviation, weight = (float(part[hop]) for part in self.scale)
        return np.asarray((norms.double().numpy() - mean) / deviation * weight)

    def nodes(self) -> Floats:
        """Return the scores of every choice's options, each layer alone (choices, options)."""
        leaders = np.array([int(np.argmax(self.space.choice == i)) for i in range(len(self.space.choices))])
        rows = self.space.first[leaders][:, None] + np.arange(len(self.space.options))
        return self._score(self.embedded.abs().sum(1)[torch.from_numpy(rows)], 0)

    def variants(self, unit: UnitNodes, variants: Ints) -> Floats:
        """Return the scores (V,) of variants (V, choices): one copy of the unit's graph for each."""
        nodes, edges = _piece(self.space, unit)
        chosen = np.zeros((len(variants), len(self.space.choices)), dtype=np.int64)
        chosen[:, _choices(self.space, unit)] = variants
        rows = self.space.rows(chosen)[:, nodes]
        messages, x, hops = Messages(edges, len(nodes), self.model.attention), self.embedded, min(unit.hops, LAYERS)
        with torch.no_grad():
            for i in range(hops):
                x = self._layer(i, x, rows, messages, x if i else None)
                rows = np.arange(rows.size).reshape(rows.shape)
        return self._score(x[torch.from_numpy(rows[:, nodes.index(unit.last)])].abs().sum(1), hops)

    def _layer(self, i: int, x: Tensor, rows: Ints, messages: Messages, before: Tensor | None) -> Tensor:
        out = torch.relu(self.model.norms[i](messages.through(self._conv(i), x, rows)))
        return out if before is None else before + out

    def all_variants(self, unit: UnitNodes) -> Floats:
        """Return the scores of all variants, the last choice running fastest."""
        if self.model.attention == "pyg":
            every = itertools.product(range(len(self.space.options)), repeat=len(_choices(self.space, unit)))
            pieces = np.array_split(chosen := np.array(list(every)), math.ceil(len(chosen) / _CHUNK))
            return np.concatenate([self.variants(unit, piece) for piece in pieces])
        nodes, edges = _piece(self.space, unit)
        own, hops, last = _choices(self.space, unit), min(unit.hops, LAYERS), nodes.index(unit.last)
        sources = [sorted({*edges[0][edges[1] == i].tolist()} - {i}) for i in range(len(nodes))]
        with torch.no_grad():
            parts = [self._rows_of(node, own) for node in nodes]
            needed = [{last}]
            for _ in range(hops):
                needed.append(needed[-1].union(*(sources[i] for i in needed[-1])))
            for layer, wanted in enumerate(reversed(needed[:-1])):
                sent = [self._sent(layer, part) if i in needed[-1 - layer] else None for i, part in enumerate(parts)]
                parts = [
                    self._receive(layer, [i, *sources[i]], parts, sent) if i in wanted else part
                    for i, part in enumerate(parts)
                ]
        axes, x = parts[last]
        count = len(self.space.options)
        index = _grid(tuple(range(len(own))), axes, count)
        return self._score(x.abs().sum(1)[torch.from_numpy(index)], hops)

    def _rows_of(self, node: int, own: Sequence[int]) -> tuple[tuple[int, ...], Tensor]:
        """Return the unit's choices that a node's features depend on, and the features for all their options."""
        choice, first = int(self.space.choice[node]), int(self.space.first[node])
        if choice not in own:
            return (), self.embedded[first : first + 1]
        return (own.index(choice),), self.embedded[first : first + len(self.space.options)]

    def _sent(self, layer: int, part: tuple[tuple[int, ...], Tensor]) -> Tensor:
        return send(self._conv(layer), part[1])

    def _conv(self, layer: int) -> GATv2Conv:
        return cast("GATv2Conv", self.model.convs[layer])

    def _receive(
        self,
        layer: int,
        around: list[int],
        parts: Sequence[tuple[tuple[int, ...], Tensor]],
        sent: Sequence[Tensor | None],
    ) -> tuple[tuple[int, ...], Tensor]:
        """Return a node after a layer, for all combinations of the choices that it and its sources depend on."""
        axes = tuple(sorted(set().union(*(parts[i][0] for i in around))))
        rows, stacked, start = [], [], 0
        for i in around:
            rows.append(_grid(axes, parts[i][0], len(self.space.options)) + start)
            tensor = sent[i]
            assert tensor is not None
            stacked.append(tensor)
            start += len(tensor)
        star = Neighbours.of(np.array([range(1, len(around)), [0] * (len(around) - 1)]).reshape(2, -1), 1)
        conv, norm = self._conv(layer), self.model.norms[layer]
        out = torch.relu(norm(gather(conv, torch.cat(stacked), np.stack(rows, axis=1), star)))
        return axes, out + parts[around[0]][1][torch.from_numpy(rows[0])] if layer else out


def _grid(axes: tuple[int, ...], own: tuple[int, ...], count: int) -> Ints:
    """Return for every combination over `axes` the index of its part over `own`, a subset of them.

    >>> _grid((0, 1), (1,), 3)
    array([0, 1, 2, 0, 1, 2, 0, 1, 2])
    """
    shape = [count if axis in own else 1 for axis in axes]
    index = np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    return np.asarray((index + np.zeros([count] * len(axes), dtype=np.int64)).reshape(-1))


def _piece(space: NodeSpace, unit: UnitNodes) -> tuple[list[int], Ints]:
    """Return the nodes of a unit's graph and the edges among them, by their place in it."""
    nodes = list(dict.fromkeys(unit.nodes))
    place = {node: i for i, node in enumerate(nodes)}
    pairs = [(place[a], place[b]) for a, b in space.topology.edges.T.tolist() if a in place and b in place]
    return nodes, np.array(pairs, dtype=np.int64).reshape(-1, 2).T


def _beam(space: NodeSpace, unit: UnitNodes, scorers: Sequence[_Scorer], nodes: Floats) -> Ints:
    """Return good variants: choice after choice, keep the best of all options; the rest at its best option alone."""
    own = _choices(space, unit)
    kept = np.where(space.allowed, nodes, -np.inf)[own].argmax(1)[None]
    for i, choice in enumerate(own):
        free = np.flatnonzero(space.allowed[choice])
        wider = np.repeat(kept, len(free), axis=0)
        wider[:, i] = np.tile(free, len(kept))
        scores = np.sum([scorer.variants(unit, wider) for scorer in scorers], axis=0)
        kept = wider[np.argsort(-scores, kind="stable")[:_BEAM]]
    return np.asarray(kept)
