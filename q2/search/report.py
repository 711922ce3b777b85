"""The results of a search: the best trial, the front of quality against size, and the baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from q2.passes import TextTable
from q2.search.metrics.base import Metric
from q2.search.metrics.pareto import pareto_front
from q2.search.strategies.base import Problem
from q2.search.trials.trial import FULL_PRECISION, Trial

__all__ = ["Found", "found", "quality_of"]

_REASONS = 5


@dataclass(frozen=True, eq=False)
class Found:
    """The complete trials of a search, the best of them, and those on the front.

    `quality` is the metric that the front compares with ``avg_bits``. `best` is None if no complete trial satisfies the
    constraints; `front` goes from the smallest to the best. `failed` trials have no value. `baselines` are trials, by
    name, that every search adds to its own; they may be best and on the front. `full` is full precision, which is
    neither. `shown` are the metrics that were asked for, `values` the target's values by trial id, `own` is the best of
    the search's own trials, and `feasible` are the ids of trials that satisfy the constraints.
    """

    trials: list[Trial]
    quality: type[Metric]
    best: Trial | None
    front: list[Trial]
    failed: list[Trial]
    baselines: Mapping[str, Trial] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    full: Trial | None = None
    shown: Sequence[type[Metric]] = ()
    own: Trial | None = None
    feasible: frozenset[str] = frozenset()

    @cached_property
    def names(self) -> dict[str, str]:
        """The names of the baselines, by trial id."""
        return {trial.id: name for name, trial in self.baselines.items()}

    @property
    def beaten(self) -> bool:
        """Whether the chosen trial is better than every baseline that satisfies the constraints."""
        return self.best is not None and self.best.id not in self.names

    def value(self, trial: Trial) -> float | None:
        """Return the target's value of a trial; None if it has no finite value."""
        return self.values.get(trial.id)

    def file(self, trial: Trial) -> str:
        """Return the name of the file with a trial's recipe; empty if it is not on the front."""
        place = next((i for i, each in enumerate(self.front) if each.id == trial.id), None)
        return "" if place is None else f"front-{place}.toml"

    def table(self) -> TextTable:
        """Return the front, the baselines and full precision as a table by average bits, the chosen trial marked."""
        columns = [kind for kind in (self.quality, *self.shown) if kind.name != "avg_bits"]
        measured = {name for trial in (*self.trials, *self.baselines.values()) for name in trial.metrics}
        columns = [kind for kind in dict.fromkeys(columns) if kind.name in measured]
        heads = [f"{kind.name} {kind.unit}".strip() for kind in columns]
        on_front = {trial.id for trial in self.front}
        listed = [*self.front, *(each for each in self.baselines.values() if each.id not in on_front)]
        complete = [trial for trial in listed if trial.state == "complete"]
        complete.sort(key=lambda trial: trial.metrics["avg_bits"])
        rows = [self._row(trial, columns) for trial in complete]
        rows += [self._row(self.full, columns)] if self.full and rows else []
        rows += [(self.names[trial.id], "", f"failed: {trial.error}") for trial in listed if trial.state == "failed"]
        width = 3 + len(heads)
        filled = tuple((*row, *[""] * (width - len(row))) for row in rows)
        return TextTable(("recipe", "avg_bits", "target", *heads), filled)

    def verdict(self) -> str:
        """Return which recipe was chosen, and how it compares with the best baseline; empty where none was chosen."""
        if self.best is None:
            return ""
        value = self._shown_value(self.best)
        rivals = [trial for trial in self.baselines.values() if trial.id in self.feasible]
        top = max(rivals, key=lambda trial: self.values[trial.id], default=None)
        if top is None:
            chosen = f"chosen: {self.file(self.best)}, target {value}"
            return chosen + ("; no baseline satisfies the constraints" if self.baselines else "")
        name = self.names[top.id]
        if self.beaten:
            rival = f"the best baseline, {name}, has {self._shown_value(top)}"
            return f"chosen: {self.file(self.best)}, target {value}; {rival}"
        if self.own is None:
            mine = "no trial of the search satisfies the constraints"
        elif self.own.id == top.id:
            mine = "the search found nothing better"
        else:
            mine = f"the search's best has {self._shown_value(self.own)}"
        return f"baseline not beaten: {name} has target {value}; {mine}. recipe.toml is {name}"

    def failures(self) -> TextTable:
        """Return the reasons of failed trials as a table, the most frequent first: how many, the first of them, why."""
        reasons: dict[str, list[Trial]] = {}
        for trial in self.failed:
            reasons.setdefault(trial.error, []).append(trial)
        groups = sorted(reasons.items(), key=lambda item: -len(item[1]))
        rows = tuple((len(group), group[0].label, error) for error, group in groups[:_REASONS])
        more = sum(len(group) for _, group in groups[_REASONS:])
        return TextTable(("failed", "first", "reason"), (*rows, *([(more, "", "other reasons")] if more else [])))

    def why_none(self) -> str:
        """Return why no recipe was chosen, and what to do; empty where one was.

        >>> Found([], Metric, None, [], []).why_none()
        'the search has no trial; next: more trials'
        """
        if self.best is not None:
            return ""
        if self.trials:
            return "no trial satisfies the constraints; next: more trials, or looser constraints"
        if not self.failed:
            return "the search has no trial; next: more trials"
        count = len(self.failed)
        rows = self.failures().rows
        often = f", {rows[0][0]} of them for the same reason" if len(rows) > 1 else ""
        return f"no recipe was chosen: all {count} trials failed{often}: {rows[0][2]}"

    def _row(self, trial: Trial, columns: Sequence[type[Metric]]) -> tuple[str, ...]:
        best = self.best is not None and trial.id == self.best.id
        mark = ("← chosen" if self.beaten else "← not beaten") if best else ""
        name = FULL_PRECISION if trial is self.full else self.names.get(trial.id, "")
        words = [self.file(trial) if trial is not self.full else "", name, mark]
        cells = (trial.shown(kind.name) if kind.name in trial.metrics else "" for kind in columns)
        bits = f"{trial.metrics['avg_bits']:.3f}"
        return " ".join(filter(None, words)), bits, "" if trial is self.full else self._shown_value(trial), *cells

    def _shown_value(self, trial: Trial) -> str:
        value = self.value(trial)
        return "" if value is None else f"{value:.5g}"


def quality_of(problem: Problem, kinds: Mapping[str, type[Metric]]) -> type[Metric]:
    """Return the metric of the target that is measured on the denoiser itself, the first; else the first of all."""
    names = problem.target.metrics
    return kinds[next((name for name in names if kinds[name].cost != "free"), names[0])]


def found(
    problem: Problem,
    trials: Sequence[Trial],
    kinds: Mapping[str, type[Metric]],
    *,
    baselines: Mapping[str, Trial] | None = None,
    full: Trial | None = None,
    shown: Sequence[str] = (),
) -> Found:
    """Sort out what a search's trials say. Trials at other fidelities than the search's own only helped it.

    Complete trials that lack what the target, the constraints or the front need are left out. `shown` are the metrics
    of the table beside the target's.
    """
    baselines = baselines or {}
    quality = quality_of(problem, kinds)
    needs = {*problem.target.metrics, quality.name, "avg_bits", *(bound.metric for bound in problem.constraints)}
    own = {trial.id: trial for trial in trials if trial.fidelity == problem.fidelity}
    complete = [trial for trial in own.values() if trial.state == "complete" and needs <= trial.metrics.keys()]
    failed = [trial for trial in own.values() if trial.state == "failed"]
    beside = [trial for trial in baselines.values() if trial.state == "complete" and trial.id not in own]
    candidates = [*complete, *beside]
    known = problem.values(candidates) if candidates else []
    values = dict(zip((trial.id for trial in candidates), known, strict=True))
    feasible = [
        trial for trial in candidates if all(bound.admits(trial.metrics[bound.metric]) for bound in problem.constraints)
    ]
    ids = {trial.id for trial in baselines.values()}
    mine = max((trial for trial in feasible if trial.id in own), key=lambda each: values[each.id], default=None)
    best = max(feasible, key=lambda each: (values[each.id], each.id in ids), default=None)
    costs = [(trial.metrics["avg_bits"], -quality.sign() * trial.metrics[quality.name]) for trial in candidates]
    chosen = pareto_front(costs) if costs else np.zeros(0, bool)
    front = [trial for trial, on in zip(candidates, chosen, strict=True) if on]
    if best is not None and best.id not in {trial.id for trial in front}:
        front.append(best)
    front.sort(key=lambda trial: trial.metrics["avg_bits"])
    columns = [kinds[name] for name in dict.fromkeys((*problem.target.metrics, *shown)) if name in kinds]
    return Found(
        complete,
        quality,
        best,
        front,
        failed,
        baselines,
        values,
        full,
        columns,
        mine,
        frozenset(trial.id for trial in feasible),
    )
