"""An evaluation as a picture: every metric of every recipe, with its interval and the verdict beside the first."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from q2.errors import Q2Error, why
from q2.plugins import Plugins
from q2.report.entries import entries, entry_of
from q2.report.folder import RunFolder
from q2.report.parts import short
from q2.search.kinds import METRICS
from q2.search.predictor.plots import Plot
from q2.search.trials.trial import FULL_PRECISION, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["evaluation_plot"]

_COLUMNS = 3
_SIZE = "avg_bits"
_FIRST = "the first"
_MARKS = {
    _FIRST: ("black", "D"),
    "better": ("#1b7837", "^"),
    "worse": ("#b2182b", "v"),
    "within noise": ("#666666", "o"),
    "same": ("#666666", "s"),
}
_LABELS = {"better": "better than the first", "worse": "worse than the first", "same": "the same as the first"}
_HEADER = ("recipe", "metric", "value", "low", "high", "verdict")


def evaluation_plot(run: RunFolder) -> Plot:
    """Draw the bits and every estimated metric of the recipes that ``q2 evaluate --out`` measured, one above the other.

    Bars are 95 % intervals; the verdict on the difference to the first recipe, from the same noise, is the colour and
    the mark. Full precision is a line, unless its value is a ratio at its limit. Raises `Q2Error`: another run.
    """
    from matplotlib.figure import Figure

    if run.kind != "evaluate":
        raise Q2Error(f"{run.path}: the folder of q2 {run.kind}, expected one that q2 evaluate --out wrote")
    trials, verdicts = _trials(run), _verdicts(run)
    offers = Plugins(entry_points=False).of(METRICS)
    full = next((entry.measured for entry in entries(run, FULL_PRECISION)), Trial({}))
    names = list(dict.fromkeys([_SIZE, *(name for trial in trials.values() for name in trial.intervals)]))
    columns = 2 if len(names) == 4 else min(len(names), _COLUMNS)
    rows_of_panels = math.ceil(len(names) / columns)
    size = (4.0 * columns + 1.5, rows_of_panels * (1.5 + 0.3 * len(trials)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows_of_panels, columns, sharey=True, squeeze=False).flat
    rows: list[tuple[object, ...]] = []
    for axes, name in zip(panels, names, strict=False):
        rows += _panel(axes, name, trials, {title: said.get(name, "") for title, said in verdicts.items()})
        kind = offers.load(name) if name in offers else None
        if name in full.metrics and name != _SIZE and not (kind and full.metrics[name] in kind.bounds):
            axes.axvline(full.metrics[name], color="#5d4037", linewidth=1, linestyle="--")
        axes.set_xlabel(kind.axis_label() if kind else name)
        axes.set_yticks(np.arange(len(trials)), [short(title) for title in trials], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.2)
    next(iter(figure.axes)).invert_yaxis()
    for axes in list(figure.axes)[len(names) :]:
        axes.set_visible(False)
    for said in dict.fromkeys(str(row[-1]) for row in rows if row[-1]):
        colour, mark = _MARKS[said]
        figure.axes[0].plot([], [], mark, color=colour, label=_LABELS.get(said, said))
    figure.axes[0].plot([], [], "--", color="#5d4037", linewidth=1, label=FULL_PRECISION)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return Plot(figure, _HEADER, tuple(rows))


def _panel(
    axes: "Axes", name: str, trials: Mapping[str, Trial], verdicts: Mapping[str, str]
) -> list[tuple[object, ...]]:
    """Draw one metric, the first recipe at the top; return its rows."""
    rows: list[tuple[object, ...]] = []
    for place, (title, trial) in enumerate(trials.items()):
        if name not in trial.metrics:
            continue
        value = trial.metrics[name]
        low, high = trial.intervals.get(name, (value, value))
        said = _FIRST if place == 0 else verdicts.get(title, "")
        colour, mark = _MARKS.get(said, ("#666666", "."))
        spread = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(value, place, xerr=spread, fmt=mark, color=colour, markersize=5, capsize=3)
        rows.append((title, name, value, low, high, said))
    return rows


def _trials(run: RunFolder) -> dict[str, Trial]:
    tables = run.report.get("recipes", {})
    try:
        found = {str(title): entry_of(table).measured for title, table in tables.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise Q2Error(f"{run.path / 'report.json'}: recipes: cannot be read: {why(error)}") from error
    if not found:
        raise Q2Error(f"{run.path / 'report.json'}: no recipes in it, expected what q2 evaluate --out wrote")
    return found


def _verdicts(run: RunFolder) -> dict[str, dict[str, str]]:
    """Return what the differences of recipes to the first mean, by metric; of few images "within noise" alone."""
    found: dict[str, dict[str, str]] = {}
    try:
        for title, of in run.report.get("differences", {}).items():
            found[title] = {name: str(each["verdict"]).partition(",")[0] for name, each in of.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise Q2Error(f"{run.path / 'report.json'}: differences: cannot be read: {why(error)}") from error
    return found
