"""Plots: files that open, and the numbers in them."""

import csv
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from q2.errors import PredictorError
from q2.quant import Option
from q2.search.predictor.label import Labels, label
from q2.search.predictor.plots import bar, box, importance
from tests.search.predictor.spaces import OPTIONS, space, trained


@pytest.fixture(scope="module")
def labels() -> Labels:
    return label(space("dit"), trained("dit"))


def test_a_plot_is_three_files(tmp_path: Path, labels: Labels) -> None:
    plot = box(space("dit"), labels)
    png, svg, table = plot.save(tmp_path, "box")
    with Image.open(png) as picture:
        assert min(picture.size) > 300
    assert "<svg" in svg.read_text(encoding="utf-8")
    with table.open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(plot.header)
    assert rows[1:] == [[str(value) for value in row] for row in plot.rows]


@pytest.mark.parametrize("by", ["block", "unit", "layer"])
def test_boxes_hold_every_score_once(labels: Labels, by: Literal["block", "unit", "layer"]) -> None:
    plot = box(space("dit"), labels, by)
    counts = {str(row[0]): row[1] for row in plot.rows}
    variants = sum(len(unit.variants) for unit in labels.units)
    assert sum(int(str(count)) for count in counts.values()) == (
        labels.nodes[:, :, 0].size if by == "layer" else variants
    )
    if by == "unit":
        scores = np.concatenate([unit.scores for unit in labels.units if unit.kind == "ff"])
        row = next(row for row in plot.rows if row[0] == "ff")
        assert row[5] == pytest.approx(np.median(scores.mean(1)))
        assert list(row[9:]) == pytest.approx(np.median(scores, axis=0).tolist())
    medians = [float(str(row[5])) for row in plot.rows]
    assert medians == sorted(medians, reverse=True)
    if by == "block":
        assert {"0", "1", "outside"} <= set(counts)


def test_a_statistic_takes_one_number_of_every_unit(labels: Labels) -> None:
    plot = box(space("dit"), labels, "unit", "max")
    assert sum(int(str(row[1])) for row in plot.rows) == len(labels.units)


@pytest.mark.parametrize("source", ["nodes", "units"])
def test_bars_are_shares_of_best_options(labels: Labels, source: Literal["nodes", "units"]) -> None:
    plot = bar(space("dit"), labels, source)
    totals: dict[object, float] = {}
    for name, _, percent, _ in plot.rows:
        totals[name] = totals.get(name, 0) + float(str(percent))
    assert list(totals.values()) == pytest.approx([100] * len(totals))
    assert [row[1] for row in plot.rows[:: len(totals)]] == list(OPTIONS)
    bits = dict.fromkeys(totals, 0.0)
    for name, option, percent, _ in plot.rows:
        bits[name] += Option.parse(str(option)).bits * float(str(percent))
    assert list(bits.values()) == sorted(bits.values(), reverse=True)  # those that want most bits come first
    if source == "nodes":
        places = [i for i, name in enumerate(labels.choices) if name.endswith("attn1.to_q")]
        best = labels.nodes.sum(2)[places].argmax(1)
        share = 100 * np.mean(best == 0)
        assert next(row for row in plot.rows if row[:2] == ("attn1.to_q", OPTIONS[0]))[2] == pytest.approx(share)


def test_pictures_say_units_direction_and_uncertainty(tmp_path: Path, labels: Labels) -> None:
    plots = {
        "box": (box(space("dit"), labels), ["higher is better", "no unit", "median of one fold", "how many scores"]),
        "bar": (bar(space("dit"), labels), ["% of layers", "deviation over folds", "type of layer (how many)"]),
        "importance": (importance(trained("dit", "fe-mlp")), ["higher is better", "method: uaq", "deviation over"]),
    }
    for name, (plot, words) in plots.items():
        _, svg, _ = plot.save(tmp_path, name)
        text = svg.read_text(encoding="utf-8")
        assert [word for word in words if word not in text] == []


def test_importance_is_that_of_every_value(labels: Labels) -> None:
    done = trained("dit", "fe-mlp")
    values = done.importance()
    assert list(values) == [*done.fields, *done.numbers]
    plot = importance(done)
    row = next(row for row in plot.rows if row[:2] == ("method", "uaq"))
    assert row[2:] == pytest.approx((values["method"]["uaq"].mean(), values["method"]["uaq"].std()))
    with pytest.raises(
        PredictorError, match="^importance: this predictor has embedding 'plain', train one with 'fe-mlp'$"
    ):
        importance(trained("dit"))
