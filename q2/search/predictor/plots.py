"""Insight plots: which options the parts of a denoiser want, and how sure the folds are; figures and their numbers.

Compare the figures of Qua²SeDiMo (AAAI'25), Sec. 5. Scores are means over the folds; what single folds say is drawn
beside them.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import numpy.typing as npt

from q2.errors import PredictorError, why
from q2.files import replacing, write_text
from q2.quant.options import Option
from q2.search.predictor.dataset import Floats
from q2.search.predictor.label import Labels
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.trained import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Plot", "bar", "box", "importance", "tall_figure"]

Statistic = Literal["all", "max", "min", "mean", "std"]
_STATISTICS: Mapping[str, Callable[[Floats], Floats]] = {
    "all": lambda scores: scores,
    "max": lambda scores: scores.max(0, keepdims=True),
    "min": lambda scores: scores.min(0, keepdims=True),
    "mean": lambda scores: scores.mean(0, keepdims=True),
    "std": lambda scores: scores.std(0, keepdims=True),
}
_MOST_LABELS = 40
_DARK = 1.4  # the sum of red, green and blue below which ink is white
_ROOM, _POINT = 8, 0.5  # percent of a bar that hold a number; the least deviation that is written


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure, and the numbers in it as rows under a `header`."""

    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]

    def save(self, folder: str | Path, name: str) -> tuple[Path, ...]:
        """Write ``name.png``, ``name.svg`` and ``name.csv`` into a folder. Raises PredictorError."""
        paths = tuple(Path(folder) / f"{name}.{kind}" for kind in ("png", "svg", "csv"))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        try:
            import matplotlib as mpl

            with mpl.rc_context({"svg.fonttype": "none"}):  # text of an SVG stays text
                for path in paths[:2]:
                    with replacing(path) as beside:
                        self.figure.savefig(beside, dpi=200, bbox_inches="tight")
            write_text(paths[2], text.getvalue())
        except OSError as error:
            raise PredictorError(f"{folder}: cannot be written: {why(error)}") from error
        return paths


def box(
    space: NodeSpace, labels: Labels, by: Literal["block", "unit", "layer"] = "unit", statistic: Statistic = "all"
) -> Plot:
    """Draw the spread of scores by block or by type of unit (over variants), or by type of layer (over options).

    `statistic` takes one number of every unit or layer instead of all its scores. The highest median comes first. A
    fold's own medians are points: how far they lie apart is how sure the predictor is.
    """
    groups: dict[str, list[Floats]] = defaultdict(list)
    for name, scores in _layer_scores(space, labels) if by == "layer" else _unit_scores(space, labels, by):
        groups[name].append(_STATISTICS[statistic](scores))
    parts = {name: np.concatenate(each) for name, each in groups.items()}
    joined = dict(sorted(parts.items(), key=lambda item: -float(np.median(item[1].mean(1)))))
    figure, axes = _figure(len(joined))
    places = np.arange(1, len(joined) + 1)
    axes.boxplot(
        [scores.mean(1) for scores in joined.values()], positions=places, showfliers=False, widths=0.6, whis=(5, 95)
    )
    rows: list[tuple[object, ...]] = []
    for place, (name, scores) in zip(places, joined.items(), strict=True):
        medians = np.median(scores, axis=0)
        axes.plot(np.full(len(medians), place), medians, ".", color="tab:red", markersize=4, zorder=3)
        quantiles = np.quantile(scores.mean(1), (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
        rows.append((name, len(scores), *quantiles.tolist(), *medians.tolist()))
    names = [f"{name} ({len(scores)})" for name, scores in joined.items()]
    of = "score" if statistic == "all" else f"{statistic} of scores"
    _label(axes, places, names, f"{by} (how many scores)", f"predicted {of}, no unit\nhigher is better →")
    axes.plot([], [], ".", color="tab:red", markersize=4, label="median of one fold")
    axes.plot([], [], color="black", label="box: quartiles, whiskers: 5 to 95 %")
    axes.legend(frameon=False, fontsize=8)
    folds = tuple(f"median fold {i}" for i in range(labels.nodes.shape[2]))
    return Plot(figure, (by, "scores", "min", "q5", "q25", "median", "q75", "q95", "max", *folds), tuple(rows))


def bar(space: NodeSpace, labels: Labels, source: Literal["nodes", "units"] = "nodes") -> Plot:
    """Draw, by type of layer, the share of layers whose best option is each; stacked to 100 %.

    The best option is a layer's own, or the one in its unit's best variant. A share that has room for it is written
    with its deviation over the folds, in points. Types whose layers want the most bits come first.
    """
    best = _best_of_nodes(labels) if source == "nodes" else _best_of_units(labels)
    kinds = _column(space, "role")
    names = list(dict.fromkeys(kinds))
    count = len(labels.options)
    shares = np.zeros((len(names), count, best.shape[1]))  # the last column is all folds together
    for name, row in zip(kinds, best, strict=True):
        shares[names.index(name)][row, np.arange(best.shape[1])] += 1
    shares *= 100 / shares.sum(1, keepdims=True)
    widths = np.array([Option.parse(option).bits for option in labels.options], float)
    order = np.argsort(-(widths @ shares[:, :, -1].T), kind="stable")
    names, shares = [names[i] for i in order], shares[order]
    figure, axes = _figure(2 * len(names))
    places, bottom = np.arange(1, len(names) + 1), np.zeros(len(names))
    rows: list[tuple[object, ...]] = []
    for option, colour in _colours(labels.options):
        height, spread = shares[:, option, -1], shares[:, option, :-1].std(1)
        axes.bar(places, height, 0.8, bottom=bottom, color=colour, label=labels.options[option])
        for place, start, share, off in zip(places, bottom, height, spread, strict=True):
            if share >= _ROOM:
                text = f"{share:.0f} ± {off:.0f}" if off >= _POINT else f"{share:.0f}"
                ink = "white" if sum(colour) < _DARK else "black"
                axes.text(float(place), start + share / 2, text, ha="center", va="center", fontsize=6, color=ink)
        bottom = bottom + height
        rows += [(n, labels.options[option], h, s) for n, h, s in zip(names, height, spread, strict=True)]
    counts = {name: kinds.count(name) for name in names}
    shown = [f"{name} ({counts[name]})" for name in names]
    _label(axes, places, shown, "type of layer (how many)", "best option, % of layers\n± deviation over folds")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return Plot(figure, ("layer", "option", "percent", "deviation over folds"), tuple(rows))


def importance(trained: Trained) -> Plot:
    """Draw what every feature's values add to a score (FE-MLP), highest first in a feature; mean and deviation.

    Raises PredictorError for a predictor with a plain embedding.
    """
    rows = [
        (feature, value, float(scores.mean()), float(scores.std()))
        for feature, values in trained.importance().items()
        for value, scores in sorted(values.items(), key=lambda item: -float(item[1].mean()))[:_MOST_LABELS]
    ]
    features: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        features[row[0]].append(place)
    spans = {name: rows[own[0]][2] - rows[own[-1]][2] for name, own in features.items()}
    order = [place for name in sorted(spans, key=lambda name: -spans[name]) for place in features[name]]
    figure, axes = tall_figure(len(order))
    colours = {name: f"C{i % 10}" for i, name in enumerate(features)}
    means, spreads = ([cast(float, rows[place][k]) for place in order] for k in (2, 3))
    axes.barh(np.arange(len(order)), means, 0.75, color=[colours[rows[place][0]] for place in order], alpha=0.8)
    axes.errorbar(means, np.arange(len(order)), xerr=spreads, fmt="none", ecolor="#444444", elinewidth=0.8, capsize=2)
    axes.set_yticks(np.arange(len(order)), [_value(*rows[place][:2]) for place in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("adds to the predicted score, no unit (higher is better →); bar: deviation over folds")
    return Plot(figure, ("feature", "value", "mean", "deviation over folds"), tuple(rows))


def _unit_scores(space: NodeSpace, labels: Labels, by: str) -> Iterable[tuple[str, Floats]]:
    blocks = dict(zip(space.choices, _blocks(space), strict=True))
    for unit in labels.units:
        yield unit.kind if by == "unit" else blocks[unit.choices[-1]], unit.scores


def _layer_scores(space: NodeSpace, labels: Labels) -> Iterable[tuple[str, Floats]]:
    for role, scores in zip(_column(space, "role"), labels.nodes, strict=True):
        yield role, scores[~np.isnan(scores).any(1)]


def _blocks(space: NodeSpace) -> list[str]:
    stages, blocks = _column(space, "stage"), _column(space, "block")
    several = len(set(stages) - {""}) > 1
    return [
        "outside" if not stage else stage if block == "-1" else f"{stage}.{block}" if several else block
        for stage, block in zip(stages, blocks, strict=True)
    ]


def _column(space: NodeSpace, field: str) -> list[str]:
    """Return a position feature of every choice."""
    place = list(space.fields).index(field)
    leaders = [int(np.argmax(space.choice == i)) for i in range(len(space.choices))]
    return [space.fields[field][code] for code in space.codes[space.first[leaders], place]]


def _best_of_nodes(labels: Labels) -> npt.NDArray[np.int64]:
    """Return the best option of every choice (choices, folds + 1), by every fold and by all together."""
    every = np.concatenate([labels.nodes, labels.nodes.sum(2, keepdims=True)], axis=2)
    return np.asarray(np.nanargmax(every, axis=1))


def _best_of_units(labels: Labels) -> npt.NDArray[np.int64]:
    best = np.zeros((len(labels.choices), labels.nodes.shape[2] + 1), dtype=np.int64)
    place = {name: i for i, name in enumerate(labels.choices)}
    for unit in labels.units:
        every = np.concatenate([unit.scores, unit.scores.sum(1, keepdims=True)], axis=1)
        best[[place[name] for name in unit.choices]] = unit.variants[every.argmax(0)].T
    return best


def _colours(options: Sequence[str]) -> list[tuple[int, tuple[float, float, float]]]:
    """Return the options widest first, each with a colour: the hue says the quantizer, the lightness the width."""
    from matplotlib.colors import to_rgb

    parsed = [Option.parse(option) for option in options]
    hues = list(dict.fromkeys(option.quantizer for option in parsed))
    widths = sorted({option.bits for option in parsed}, reverse=True)
    colours = []
    for i in sorted(range(len(parsed)), key=lambda i: -parsed[i].bits):
        light = 0.6 * widths.index(parsed[i].bits) / max(1, len(widths) - 1)
        red, green, blue = (x + (1 - x) * light for x in to_rgb(f"C{hues.index(parsed[i].quantizer)}"))
        colours.append((i, (red, green, blue)))
    return colours


def _figure(groups: int) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(4.0, 1.5 + 0.3 * min(groups, 3 * _MOST_LABELS)), 3.5))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _value(feature: str, value: str) -> str:
    """Return a feature's value in words: what is no number of a block or of bits says what it means."""
    meant = {("bits", "0"): "not quantized"}.get((feature, value), "outside" if value in ("", "-1") else value)
    return f"{feature}: {meant}"


def tall_figure(bars: int) -> tuple[Figure, Axes]:
    """Return a figure that is high enough for so many horizontal bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, max(3.0, 1.0 + 0.17 * bars)))
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.01)
    return figure, axes


def _label(axes: Axes, places: npt.NDArray[np.int64], names: Sequence[str], x: str, y: str) -> None:
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 3 else 0, fontsize=8)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
