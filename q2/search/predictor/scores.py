"""Scores to build recipes from: of every option of a choice, or of every variant of a unit, in the target's unit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from q2.progress import Progress, silent
from q2.search.building.knapsack import Built, Group
from q2.search.predictor.additive import Additive
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.effects import effects
from q2.search.predictor.label import MAX_VARIANTS, Labels, UnitScores, score_variants
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.trained import Trained

__all__ = [
    "Level",
    "ScoredPart",
    "additive_labels",
    "chosen_of",
    "from_effects",
    "from_labels",
    "from_ridge",
    "groups_of",
    "labels_scale",
]

Level = Literal["unit", "node"]
_BASES = 16
_LEAST = 0.1
_HIGH = 0.9


@dataclass(frozen=True, eq=False)
class ScoredPart:
    """Scores (variants, folds) of the options (variants, choices) of some `choices`; what all parts say adds up."""

    choices: Ints
    variants: Ints
    scores: Floats

    def added(self, table: Floats) -> Floats:
        """Return what every variant adds (variants,) to a sum over a table (choices, options) of all choices."""
        return np.asarray(table[self.choices, self.variants].sum(1))


def groups_of(
    parts: Sequence[ScoredPart], known: Floats, costs: Mapping[str, Floats], fold: int | None = None
) -> list[Group]:
    """Return what a solver chooses from: the scores' mean over the folds, or one fold's, plus what is `known`.

    `known` (choices, options) is added exactly; `costs` are tables of the same shape by metric.
    """
    groups = []
    for i, part in enumerate(parts):
        scores = part.scores.mean(1) if fold is None else part.scores[:, fold]
        added = {name: part.added(table) for name, table in costs.items()}
        groups.append(Group(f"part {i}", scores + part.added(known), added))
    return groups


def chosen_of(parts: Sequence[ScoredPart], built: Built) -> Ints:
    """Return the options (choices,) of the variant that was chosen of every part."""
    chosen = np.zeros(sum(len(part.choices) for part in parts), np.int64)
    for part, item in zip(parts, built.items, strict=True):
        chosen[part.choices] = part.variants[item]
    return chosen


def from_ridge(space: NodeSpace, fits: Sequence[Additive], y: Floats) -> list[ScoredPart]:
    """Return what `additive` says, of every fold, in the unit that the target has where it is high in `y` (trials,)."""
    high = float(np.quantile(y, _HIGH))
    return _nodes(space, np.stack([fit.table * fit.link.slope(high) for fit in fits], axis=-1))


def from_effects(
    space: NodeSpace, trained: Trained, chosen: Ints, y: Floats, progress: Progress = silent
) -> list[ScoredPart]:
    """Return the effect of each option on the prediction, averaged over the best and some other trials.

    `chosen` (trials, choices) are the trials' options and `y` (trials,) their values.
    """
    bases = np.argsort(-y, kind="stable")[:: max(1, len(y) // _BASES)][:_BASES]
    found = effects(space, trained, chosen[bases], progress)
    return _nodes(space, found - found.mean(1, keepdims=True))


def from_labels(space: NodeSpace, labels: Labels, scale: float, *, level: Level) -> list[ScoredPart]:
    """Return the scores of `label` times a `scale`, such as `labels_scale` says."""
    if level == "node":
        return _nodes(space, labels.nodes * scale)
    place = {name: i for i, name in enumerate(space.choices)}
    return [
        ScoredPart(np.array([place[name] for name in unit.choices]), unit.variants, unit.scores * scale)
        for unit in labels.units
    ]


def labels_scale(  # noqa: PLR0917 (its callers have them all)
    space: NodeSpace, trained: Trained, labels: Labels, chosen: Ints, y: Floats, level: Level
) -> float:
    """Return the factor that brings the scores of `label` to the target's unit.

    All parts share it: the slope of a regression of `y` (trials,) on the summed scores of `chosen` (trials, choices),
    but at least a tenth of the slope at perfect correlation, so that scores keep their order even if they explain
    little of these trials.
    """
    if level == "node":
        seen = [labels.nodes[i, chosen[:, i]] for i in range(len(space.choices))]
    else:
        parts = from_labels(space, labels, 1.0, level=level)
        pairs = zip(space.topology.units, parts, strict=True)
        seen = [score_variants(space, trained, unit, chosen[:, part.choices]) for unit, part in pairs]
    total = np.sum(seen, axis=(0, 2))
    good = np.isfinite(total)  # the others have options that recipes may not take
    return float(_slope(total[good], y[good]) * labels.nodes.shape[2])


def _slope(total: Floats, y: Floats) -> float:
    spread = float(total.std()) if len(total) > 2 else 0.0
    if not spread:
        return 1.0
    along = float(((total - total.mean()) * (y - y.mean())).mean()) / spread
    return max(along, _LEAST * float(y.std())) / spread


def additive_labels(space: NodeSpace, parts: Sequence[ScoredPart]) -> Labels:
    """Return parts of one choice each as labels: a variant's score is the sum of its options'."""
    table, units = _table(space, parts), []
    table[~space.allowed] = np.nan
    for unit in space.topology.units:
        own = list(dict.fromkeys(space.choice[list(unit.layers)].tolist()))
        free = [np.flatnonzero(space.allowed[i]) for i in own]
        complete = math.prod(map(len, free)) <= MAX_VARIANTS
        if not complete:  # the best variant alone
            free = [np.array([np.nanargmax(table[i].sum(1))]) for i in own]
        variants = np.stack([axis.ravel() for axis in np.meshgrid(*free, indexing="ij")], axis=1)
        scores = np.sum([table[i, variants[:, j]] for j, i in enumerate(own)], axis=0)
        names = tuple(space.choices[i] for i in own)
        units.append(UnitScores(unit.name, unit.kind, names, variants, scores, complete))
    return Labels(space.options, space.choices, table, tuple(units))


def _table(space: NodeSpace, parts: Sequence[ScoredPart]) -> Floats:
    """Return the scores (choices, options, folds) of parts of one choice each; 0 where an option is not allowed."""
    table = np.zeros((len(space.choices), len(space.options), parts[0].scores.shape[1]))
    for part in parts:
        table[part.choices[0], part.variants[:, 0]] = part.scores
    return table


def _nodes(space: NodeSpace, table: Floats) -> list[ScoredPart]:
    """Return a part for every choice from scores (choices, options, folds)."""
    parts = []
    for i, row in enumerate(space.allowed):
        free = np.flatnonzero(row)
        parts.append(ScoredPart(np.array([i]), free[:, None], table[i, free]))
    return parts
