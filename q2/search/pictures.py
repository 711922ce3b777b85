"""Pictures of what a search found: all trials, quality against average bits, with the front and the baselines."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from q2.files import replacing
from q2.search.report import Found
from q2.search.trials.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["front_picture", "write_figure"]

_CHOSEN, _BASELINE, _FULL = "#c62828", "#00695c", "#5d4037"


def front_picture(result: Found, path: Path) -> None:
    """Draw all trials, quality against average bits, the front, the baselines and the chosen one; see `write_figure`.

    Bars are 95 % intervals. Full precision is a line, as its bits are far to the right.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    name = result.quality.name
    groups: dict[str, list[Trial]] = {}
    for trial in result.trials:
        if trial.id not in result.names:
            groups.setdefault(trial.strategy or "trials", []).append(trial)
    for label, group in groups.items():
        bits, values = _columns(group, name)
        axes.scatter(bits, values, s=14, alpha=0.5, label=f"{label} ({len(group)})")
    axes.plot(*_columns(result.front, name), color="black", linewidth=1, marker="o", markersize=3, label="front")
    uniform = [trial for trial in result.baselines.values() if name in trial.metrics]
    if uniform:
        axes.scatter(*_columns(uniform, name), marker="D", s=26, color=_BASELINE, label="baselines", zorder=3)
        for trial in uniform:
            point = trial.metrics["avg_bits"], trial.metrics[name]
            text = result.names[trial.id].removesuffix(" everywhere")
            axes.annotate(text, point, (4, 4), textcoords="offset points", fontsize=6, color=_BASELINE)
    _full_precision(axes, result)
    if result.best is not None:
        place, value = result.best.metrics["avg_bits"], result.best.metrics[name]
        low, high = result.best.intervals.get(name, (value, value))
        label = "chosen" if result.beaten else "chosen: a baseline"
        spread = [[value - low], [high - value]]
        axes.errorbar(place, value, spread, fmt="*", color=_CHOSEN, markersize=12, capsize=3, label=label, zorder=4)
    axes.set_xlabel("average bits of a weight")
    axes.set_ylabel(result.quality.axis_label())
    if result.quality.better == "lower":
        axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    write_figure(figure, path)


def write_figure(figure: "Figure", path: Path) -> None:
    """Write a figure, whole or not at all; PNG or SVG by the path's ending. The text of an SVG stays text."""
    import matplotlib as mpl

    data = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "q2"}):
        figure.savefig(data, format=path.suffix[1:], dpi=160)
    with replacing(path) as beside:
        beside.write_bytes(data.getvalue())


def _full_precision(axes: "Axes", result: Found) -> None:
    """Draw full precision's quality as a line, unless it is a ratio at its limit, far from every trial."""
    name = result.quality.name
    if result.full is None or name not in result.full.metrics:
        return
    value = result.full.metrics[name]
    if value in result.quality.bounds:
        return
    axes.axhline(value, color=_FULL, linewidth=1, linestyle="--", label="full precision")


def _columns(trials: Sequence[Trial], name: str) -> tuple[list[float], list[float]]:
    return [trial.metrics["avg_bits"] for trial in trials], [trial.metrics[name] for trial in trials]
