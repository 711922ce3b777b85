"""Scores of one or several files of labels as one: summed after each was brought to the same spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from q2.errors import PredictorError, did_you_mean
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.label import Labels
from q2.search.predictor.scores import Level, ScoredPart
from q2.search.predictor.space import NodeSpace

__all__ = ["NamedPart", "best_first", "check_alike", "combined", "named_parts", "with_known"]


@dataclass(frozen=True, eq=False)
class NamedPart(ScoredPart):
    """A unit with its variants, or a layer with its options: `name`, what `kind` of unit it is, and their scores.

    `scores` are (variants, columns): folds of one file of labels, or the files that were combined; higher is better.
    """

    name: str
    kind: str
    complete: bool = True

    @property
    def total(self) -> Floats:
        """The score of every variant (variants,), summed over folds or files."""
        return np.asarray(self.scores.sum(1))


def with_known(space: NodeSpace, labels: Labels) -> Labels:
    """Return labels whose scores have the target's known terms, which a search's leave out (`Provenance.known`).

    Raises PredictorError for a space that does not know these sums.
    """
    made = labels.made
    for name in made.known:
        if name not in space.tables:
            raise PredictorError(f"labels: the space beside them does not know {name!r}, a term of their target")
    table = sum((factor * space.tables[name] for name, factor in made.known.items()), np.zeros_like(space.bits))
    place = {name: i for i, name in enumerate(labels.choices)}
    units = []
    for unit in labels.units:
        own = np.array([place[name] for name in unit.choices], np.int64)
        added = table[own, unit.variants].sum(1)
        units.append(replace(unit, scores=unit.scores + added[:, None] / made.scale_unit))
    nodes = labels.nodes + table[:, :, None] / made.scale_node
    return replace(labels, nodes=nodes, units=tuple(units))


def combined(files: Sequence[Labels], level: Level) -> list[NamedPart]:
    """Return the units, or with `level` ``node`` the layers, with scores that are summed over files of labels.

    One file's scores stay as they are. Of several, each file's are first normalized: of every unit (layer) the mean
    over its variants (options) is taken away, and all are divided by the root of the mean square of what is left, where
    every unit counts alike. So every file weighs the same, whatever its target's unit or its number of folds.
    Raises PredictorError for files of different layers, options or variants.
    """
    if not files:
        raise PredictorError("labels: expected one or more files")
    check_alike(files)
    every = [named_parts(labels, level) for labels in files]
    if len(files) == 1:
        return every[0]
    spreads = [_spread(parts) for parts in every]
    found = []
    for same in zip(*every, strict=True):
        first = same[0]
        if any(not np.array_equal(part.variants, first.variants) for part in same):
            raise PredictorError(
                f"labels: of {first.name!r} the files score different variants; level 'node' takes layers alone"
            )
        scores = [_centred(part) / spread for part, spread in zip(same, spreads, strict=True)]
        found.append(NamedPart(first.choices, first.variants, np.stack(scores, axis=1), first.name, first.kind))
    return found


def named_parts(labels: Labels, level: Level) -> list[NamedPart]:
    """Return a file's units with their variants, or its layers with the options that they may take.

    A layer that no unit holds is a part of its own. Raises PredictorError for one that several units hold.
    """
    place = {name: i for i, name in enumerate(labels.choices)}
    parts = []
    if level == "unit":
        for unit in labels.units:
            choices = np.array([place[name] for name in unit.choices], np.int64)
            parts.append(NamedPart(choices, unit.variants, unit.scores, unit.name, unit.kind, unit.complete))
    held = Counter(int(choice) for part in parts for choice in part.choices)
    for i, name in enumerate(labels.choices):
        if held[i] > 1:
            raise PredictorError(
                f"labels: layer {name!r} is in {held[i]} units, expected one; level 'node' takes layers"
            )
        if not held[i]:
            free = np.flatnonzero(np.isfinite(labels.nodes[i]).all(-1))
            parts.append(NamedPart(np.array([i]), free[:, None], labels.nodes[i, free], name, "layer"))
    return sorted(parts, key=lambda part: int(part.choices.min()))


def check_alike(files: Sequence[Labels]) -> None:
    """Raise PredictorError unless all are of the same denoiser, layers and options."""
    first = files[0]
    mine = first.made.subject
    for number, other in enumerate(files[1:], 2):
        theirs = other.made.subject
        known = mine.denoiser and theirs.denoiser
        if known and (mine.denoiser, mine.fingerprint) != (theirs.denoiser, theirs.fingerprint):
            raise PredictorError(f"labels: file {number} is of {theirs}, the first of {mine}")
        for what, these, those in (("layer", first.choices, other.choices), ("option", first.options, other.options)):
            if odd := next((name for name in those if name not in these), ""):
                near = did_you_mean(odd, these)
                raise PredictorError(f"labels: file {number} has the {what} {odd!r}, the first has not{near}")
            if these != those:
                raise PredictorError(f"labels: file {number} has fewer {what}s than the first, or another order")


def _centred(part: NamedPart) -> Floats:
    return np.asarray(part.total - part.total.mean())


def _spread(parts: Sequence[NamedPart]) -> float:
    squares = [float((_centred(part) ** 2).mean()) for part in parts if len(part.variants) > 1]
    return float(np.sqrt(np.mean(squares))) if any(squares) else 1.0


def best_first(part: NamedPart) -> Ints:
    """Return the places of a part's variants (variants,), the highest score first."""
    return np.asarray(np.argsort(-part.total, kind="stable"))
