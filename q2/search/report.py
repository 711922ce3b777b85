"""What a search hands to people: the best trial, the front of quality against size, as tables and a picture."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from q2.files import replacing
from q2.passes import TextTable
from q2.search.metrics.base import Metric
from q2.search.metrics.pareto import pareto_front
from q2.search.strategies.base import Problem
from q2.search.trials.trial import Trial

__all__ = ["Found", "found", "front_picture", "quality_of"]

_REASONS = 5


@dataclass(frozen=True, eq=False)
class Found:
    """The complete trials of a search with their `worth`, the best of them, and those on the front.

    `quality` is the metric that the front weighs against ``avg_bits``. `best` is None where no trial is complete and
    satisfies the constraints; `front` goes from the smallest to the best. `failed` trials have no worth.
    """

    trials: list[Trial]
    worth: list[float]
    quality: type[Metric]
    best: Trial | None
    front: list[Trial]
    failed: list[Trial]

    def table(self) -> TextTable:
        """Return the front as a table, the chosen one marked."""
        worth = {trial.id: value for trial, value in zip(self.trials, self.worth, strict=True)}
        unit = f" {self.quality.unit}" if self.quality.unit else ""
        rows = []
        for number, trial in enumerate(self.front):
            mark = " ← chosen" if self.best is not None and trial.id == self.best.id else ""
            shown = trial.shown(self.quality.name)
            rows.append((f"{trial.metrics['avg_bits']:.3f}", shown, worth[trial.id], f"front-{number}.toml{mark}"))
        return TextTable(("avg_bits", f"{self.quality.name}{unit}", "target", "recipe"), tuple(rows))

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

        >>> Found([], [], Metric, None, [], []).why_none()
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


def quality_of(problem: Problem, kinds: Mapping[str, type[Metric]]) -> type[Metric]:
    """Return the metric of the target that is measured on the denoiser itself, the first; else the first of all."""
    names = problem.target.metrics
    return kinds[next((name for name in names if kinds[name].cost != "free"), names[0])]


def found(problem: Problem, trials: Sequence[Trial], kinds: Mapping[str, type[Metric]]) -> Found:
    """Sort out what a search's trials say. Trials at other fidelities than the search's own only helped it."""
    own = {trial.id: trial for trial in trials if trial.fidelity == problem.fidelity}
    complete = [trial for trial in own.values() if trial.state == "complete"]
    failed = [trial for trial in own.values() if trial.state == "failed"]
    worth = problem.worth(complete) if complete else []
    quality = quality_of(problem, kinds)
    allowed = [
        (value, trial)
        for value, trial in zip(worth, complete, strict=True)
        if all(bound.admits(trial.metrics[bound.metric]) for bound in problem.constraints)
    ]
    best = max(allowed, key=lambda pair: pair[0])[1] if allowed else None
    costs = [(trial.metrics["avg_bits"], -quality.sign() * trial.metrics[quality.name]) for trial in complete]
    chosen = pareto_front(costs) if costs else np.zeros(0, bool)
    front = [trial for trial, on in zip(complete, chosen, strict=True) if on]
    if best is not None and best.id not in {trial.id for trial in front}:
        front.append(best)
    front.sort(key=lambda trial: trial.metrics["avg_bits"])
    return Found(complete, worth, quality, best, front, failed)


def front_picture(result: Found, path: Path) -> None:
    """Draw all trials, quality against average bits, the front and the chosen one; PNG or SVG by the path's ending."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    name, unit = result.quality.name, result.quality.unit
    groups: dict[str, list[Trial]] = {}
    for trial in result.trials:
        groups.setdefault(trial.strategy or "trials", []).append(trial)
    for label, group in groups.items():
        bits, values = _columns(group, name)
        axes.scatter(bits, values, s=14, alpha=0.5, label=f"{label} ({len(group)})")
    axes.plot(*_columns(result.front, name), color="black", linewidth=1, marker="o", markersize=3, label="front")
    if result.best is not None:
        place, value = result.best.metrics["avg_bits"], result.best.metrics[name]
        low, high = result.best.intervals.get(name, (value, value))
        spread = [[value - low], [high - value]]
        axes.errorbar(place, value, spread, fmt="*", color="#c62828", markersize=12, label="chosen")
    axes.set_xlabel("average bits of a weight")
    axes.set_ylabel(f"{name} ({unit})" if unit else name)
    if result.quality.better == "lower":
        axes.invert_yaxis()
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:], dpi=160)
    with replacing(path) as beside:
        beside.write_bytes(data.getvalue())


def _columns(trials: Sequence[Trial], name: str) -> tuple[list[float], list[float]]:
    return [trial.metrics["avg_bits"] for trial in trials], [trial.metrics[name] for trial in trials]
