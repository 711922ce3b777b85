"""Compares strategies by several searches of each: means with intervals, a table and a picture."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from q2.files import write_text
from q2.passes import TextTable
from q2.search.metrics.base import Metric
from q2.search.metrics.intervals import Estimate
from q2.search.metrics.pareto import hypervolume, pareto_front
from q2.search.pictures import write_figure
from q2.search.strategies.base import Problem
from q2.search.trials.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Compared", "Searched", "mean_of", "picture", "searched", "write_csv"]

Array = NDArray[np.float64]
_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_BASELINE = "#00695c"


@dataclass(frozen=True, eq=False)
class Searched:
    """One search: float64 (trials,) for its trials at the search's own fidelity, in the order they were asked for.

    `bits`, `quality` and `values` of a failed trial are NaN; so is the value of a trial that violates a constraint.
    `cheaper` is the number of trials at cheaper fidelities.
    """

    strategy: str
    seed: int
    bits: Array
    quality: Array
    values: Array
    cheaper: int = 0

    @cached_property
    def best(self) -> Array:
        """The best target so far, float64 (trials,); NaN before the first."""
        return np.asarray(np.fmax.accumulate(self.values))

    def quality_within(self, bits: float, sign: int) -> float:
        """Return the best quality of a trial with at most `bits` average bits; NaN if there is none."""
        inside = self.quality[(self.bits <= bits + 1e-9) & np.isfinite(self.quality)]
        return float(sign * (sign * inside).max()) if len(inside) else math.nan


def searched(strategy: str, seed: int, problem: Problem, trials: Sequence[Trial], quality: type[Metric]) -> Searched:
    """Collect the values of a search's trials. Raises `TargetError` for a complete trial without a finite value."""
    own = [trial for trial in trials if trial.fidelity == problem.fidelity]
    complete = [trial for trial in own if trial.state == "complete"]
    values = dict(zip((trial.id for trial in complete), problem.values(complete) if complete else [], strict=True))
    for trial in complete:
        if not all(bound.admits(trial.metrics[bound.metric]) for bound in problem.constraints):
            values[trial.id] = math.nan
    return Searched(
        strategy,
        seed,
        np.array([trial.metrics["avg_bits"] if trial.id in values else math.nan for trial in own]),
        np.array([trial.metrics[quality.name] if trial.id in values else math.nan for trial in own]),
        np.array([values.get(trial.id, math.nan) for trial in own]),
        len(trials) - len(own),
    )


def mean_of(values: Sequence[float]) -> Estimate:
    """Return the mean with its 95 % interval by Student's t; NaN (a search without a value) is left out.

    The bounds are NaN for fewer than two values.

    >>> found = mean_of([1.0, 2.0, 3.0])
    >>> found.value, round(found.high - found.value, 3)
    (2.0, 2.484)
    """
    from scipy.stats import t

    given = np.array([value for value in values if math.isfinite(value)], np.float64)
    if len(given) < 2:
        return Estimate(float(given[0]) if len(given) else math.nan, math.nan, math.nan)
    half = float(t.ppf(0.975, len(given) - 1)) * float(given.std(ddof=1)) / math.sqrt(len(given))
    mean = float(given.mean())
    return Estimate(mean, mean - half, mean + half)


@dataclass(frozen=True, eq=False)
class Compared:
    """Searches of several strategies for the same problem, of `trials` trials each; `quality` is compared with bits.

    `baselines` are the trials to beat, by name. `values` are the targets of the baselines that satisfy the constraints,
    by name.
    """

    searches: list[Searched]
    quality: type[Metric]
    trials: int
    baselines: Mapping[str, Trial] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def top(self) -> str:
        """The name of the best baseline; empty if there is none."""
        return max(self.values, key=lambda name: self.values[name], default="")

    @cached_property
    def strategies(self) -> list[str]:
        """The distinct strategies."""
        return list(dict.fromkeys(search.strategy for search in self.searches))

    @cached_property
    def budgets(self) -> list[float]:
        """Budgets of average bits: quantiles over all trials."""
        bits = np.concatenate([search.bits[np.isfinite(search.quality)] for search in self.searches])
        found = np.unique(np.round(np.quantile(bits, _SHARES), 2)) if len(bits) else np.zeros(0)
        return [float(value) for value in found]

    @cached_property
    def corner(self) -> tuple[float, float]:
        """The most average bits and the worst quality (as a cost) of all trials: the hypervolume's reference point."""
        points = np.concatenate([self._costs(search) for search in self.searches])
        worst = points.max(axis=0) if len(points) else np.zeros(2)
        return float(worst[0]), float(worst[1])

    def of(self, strategy: str) -> list[Searched]:
        """Return a strategy's searches, one for each seed."""
        return [search for search in self.searches if search.strategy == strategy]

    def curve(self, strategy: str) -> list[Estimate]:
        """Return the best target after 1, 2, … trials; a search that ended early keeps its best."""
        rows = []
        for search in self.of(strategy):
            best = search.best[: self.trials]
            last = best[-1] if len(best) else math.nan
            rows.append(np.concatenate([best, np.full(self.trials - len(best), last)]))
        return [mean_of(column) for column in np.array(rows).T.tolist()]

    def within(self, strategy: str, bits: float) -> Estimate:
        """Return the best quality with at most `bits` average bits."""
        return mean_of([search.quality_within(bits, self.quality.sign()) for search in self.of(strategy)])

    def volume(self, strategy: str) -> Estimate:
        """Return the hypervolume of bits and quality, up to `corner`."""
        return mean_of([hypervolume(self._costs(search), self.corner) for search in self.of(strategy)])

    def table(self) -> TextTable:
        """Return a row for each strategy: mean ± half the 95 % interval over its seeds."""
        heads = [f"{self.quality.name} at ≤ {bits:g}" for bits in self.budgets]
        rows: list[tuple[str | int | float, ...]] = []
        for name in self.strategies:
            whole = [_shown(self.curve(name)[-1]), _shown(self.volume(name))]
            rows.append((name, len(self.of(name)), *whole, *(self._cell(name, bits) for bits in self.budgets)))
        if self.top:
            cells = (self._baseline(bits) for bits in self.budgets)
            rows.append((f"best baseline: {self.top}", "", f"{self.values[self.top]:.5g}", "", *cells))
        return TextTable(("strategy", "seeds", "best target", "hypervolume", *heads), tuple(rows))

    def summary(self) -> dict[str, object]:
        """Return everything as JSON values; an interval is mean, low, high."""
        return {
            "trials": self.trials,
            "quality": self.quality.name,
            "corner": {"avg_bits": self.corner[0], self.quality.name: -self.quality.sign() * self.corner[1]},
            "strategies": {
                name: {
                    "seeds": [search.seed for search in self.of(name)],
                    "cheaper trials": [search.cheaper for search in self.of(name)],
                    "best target": [_table(value) for value in self.curve(name)],
                    "hypervolume": _table(self.volume(name)),
                    "quality": [{"avg_bits": bits, **_table(self.within(name, bits))} for bits in self.budgets],
                }
                for name in self.strategies
            },
            "baselines": {
                name: {"target": self.values.get(name), "metrics": trial.metrics}
                for name, trial in self.baselines.items()
            },
        }

    def _baseline(self, bits: float) -> str:
        """Return the best quality of a baseline with at most `bits` average bits."""
        sign, name = self.quality.sign(), self.quality.name
        inside = [t.metrics[name] for t in self.baselines.values() if t.metrics.get("avg_bits", np.inf) <= bits + 1e-9]
        return f"{sign * max(sign * value for value in inside):.5g}" if inside else "–"

    def _cell(self, strategy: str, bits: float) -> str:
        """Return the quality within `bits`, and the number of seeds if some have none."""
        values = [search.quality_within(bits, self.quality.sign()) for search in self.of(strategy)]
        count = sum(map(math.isfinite, values))
        return _shown(mean_of(values)) + (f" ({count} of {len(values)})" if 0 < count < len(values) else "")

    def _costs(self, search: Searched) -> Array:
        points = np.stack([search.bits, -self.quality.sign() * search.quality], axis=1)
        return np.asarray(points[np.isfinite(points).all(axis=1)])


def write_csv(compared: Compared, path: Path) -> None:
    """Write a row for each trial of each search."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["strategy", "seed", "trial", "avg_bits", compared.quality.name, "target", "best target"])
    for search in compared.searches:
        columns = (search.bits, search.quality, search.values, search.best)
        for number, values in enumerate(zip(*(column.tolist() for column in columns), strict=True), 1):
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            writer.writerow([search.strategy, search.seed, number, *cells])
    write_text(path, text.getvalue())


def picture(compared: Compared, path: Path) -> None:
    """Draw best target against trials, quality against average bits, and hypervolumes; bands are 95 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    curves, bits, volumes = figure.subplots(1, 3)
    for number, name in enumerate(compared.strategies):
        colour = f"C{number}"
        _band(curves, list(range(1, compared.trials + 1)), compared.curve(name), name, colour)
        _band(bits, compared.budgets, [compared.within(name, budget) for budget in compared.budgets], name, colour)
        for search in compared.of(name):
            points = compared._costs(search)
            front = points[pareto_front(points)] if len(points) else points
            bits.scatter(front[:, 0], -compared.quality.sign() * front[:, 1], s=6, alpha=0.4, color=colour)
        found = compared.volume(name)
        volumes.bar(name, found.value, color=colour, alpha=0.7)
        if math.isfinite(found.low):
            volumes.errorbar(name, found.value, [[found.value - found.low], [found.high - found.value]], color="black")
    uniform = [trial for trial in compared.baselines.values() if compared.quality.name in trial.metrics]
    if uniform:
        places = [trial.metrics["avg_bits"] for trial in uniform], [t.metrics[compared.quality.name] for t in uniform]
        bits.scatter(*places, marker="D", s=26, color=_BASELINE, label="baselines", zorder=3)
        bits.legend(frameon=False)
    if compared.top:
        label = f"best baseline: {compared.top}"
        curves.axhline(compared.values[compared.top], color=_BASELINE, linewidth=1, linestyle="--", label=label)
    curves.set(xlabel="trials", ylabel="best target")
    unit = f" ({compared.quality.unit})" if compared.quality.unit else ""
    bits.set(xlabel="average bits of a weight", ylabel=f"best {compared.quality.name}{unit}")
    if compared.quality.better == "lower":
        bits.invert_yaxis()
    volumes.set(ylabel="hypervolume of bits and quality")
    curves.legend(frameon=False)
    for axes in (curves, bits, volumes):
        axes.spines[["top", "right"]].set_visible(False)
    write_figure(figure, path)


def _band(axes: "Axes", places: Sequence[float], values: Sequence[Estimate], name: str, colour: str) -> None:
    axes.plot(places, [value.value for value in values], label=name, color=colour, linewidth=1.5)
    low, high = [value.low for value in values], [value.high for value in values]
    axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _table(value: Estimate) -> dict[str, float]:
    return {"mean": value.value, "low": value.low, "high": value.high}


def _shown(value: Estimate) -> str:
    if not math.isfinite(value.value):
        return "–"
    return f"{value.value:.5g} ± {value.high - value.value:.2g}" if math.isfinite(value.low) else f"{value.value:.5g}"
