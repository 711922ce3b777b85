"""What a comparison says of searches: best so far, bits, hypervolume, intervals over seeds."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from q2.search.comparison import Compared, Searched, mean_of, picture, searched, write_csv
from q2.search.metrics.outputs import Sqnr
from q2.search.trials.trial import Trial
from tests.search.strategies.tiny import measure, problem


def made(strategy: str, seed: int, bits: list[float], quality: list[float]) -> Searched:
    values = np.array(quality) - np.array(bits)
    return Searched(strategy, seed, np.array(bits), np.array(quality), values)


@pytest.fixture
def two() -> Compared:
    searches = [
        made("a", 0, [4.0, 3.0], [20.0, 10.0]),
        made("a", 1, [4.0, 3.0], [22.0, 13.0]),
        made("b", 0, [4.0], [16.0]),
        made("b", 1, [3.5], [math.nan]),
    ]
    return Compared(searches, Sqnr, 3)


def test_the_interval_is_students() -> None:
    values = [3.0, 5.0, 10.0, math.nan]
    low, high = stats.t.interval(0.95, 2, 6.0, stats.sem([3.0, 5.0, 10.0]))
    found = mean_of(values)
    assert (found.value, found.low, found.high) == pytest.approx((6.0, low, high))
    assert math.isnan(mean_of([4.0]).low)
    assert mean_of([4.0]).value == 4.0
    assert math.isnan(mean_of([]).value)


def test_a_curve_is_the_best_so_far_and_keeps_it_where_a_search_ended(two: Compared) -> None:
    assert [value.value for value in two.curve("a")] == [17.0, 17.0, 17.0]
    assert [value.value for value in two.curve("b")] == [12.0, 12.0, 12.0]


def test_quality_within_bits_and_hypervolume_go_by_the_metrics_direction(two: Compared) -> None:
    assert two.within("a", 3.2).value == 11.5
    assert two.within("a", 4.0).value == 21.0
    assert math.isnan(two.within("b", 3.2).value)
    assert two.corner == (4.0, -10.0)
    assert two.volume("a").value == pytest.approx((0.0 + 3.0) / 2)
    assert two.searches[0].quality_within(4.0, -1) == 10.0


def test_trials_that_fail_break_a_constraint_or_are_cheaper_are_sorted_out() -> None:
    of = problem(target="SQNR", layers=2, constraints=["avg_bits <= 3.6"])
    recipes = [{"layer0": option, "layer1": option} for option in ("uaq-3", "uaq-4", "kmeans-c-3", "kmeans-c-4")]
    trials = [Trial(recipe, measure(recipe, "full"), number=i) for i, recipe in enumerate(recipes[:3])]
    trials += [
        Trial(recipes[3], {"SQNR": 99.0}, state="failed", error="x"),
        Trial(recipes[3], {"SQNR": 1.0}, fidelity="forward"),
    ]
    found = searched("optuna", 5, of, trials, Sqnr)
    assert found.cheaper == 1
    assert found.values.tolist() == pytest.approx([21.0, math.nan, 26.0, math.nan], nan_ok=True)
    assert found.best.tolist() == [21.0, 21.0, 26.0, 26.0]
    assert np.isnan(found.quality).tolist() == np.isnan(found.bits).tolist() == [False, False, False, True]


def test_table_csv_json_and_picture_say_the_same(two: Compared, tmp_path: Path) -> None:
    table = two.table()
    assert table.headers[:4] == ("strategy", "seeds", "best target", "hypervolume")
    half = stats.t.ppf(0.975, 1) * np.std([16.0, 18.0], ddof=1) / math.sqrt(2)
    assert table.rows[0][:3] == ("a", 2, f"17 ± {half:.2g}")
    assert table.rows[1][2] == "12"
    assert table.headers[-1] == "SQNR at ≤ 4"
    assert table.rows[1][-1] == "16 (1 of 2)"
    write_csv(two, tmp_path / "compare.csv")
    rows = list(csv.DictReader((tmp_path / "compare.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert rows[1] == {
        "strategy": "a",
        "seed": "0",
        "trial": "2",
        "avg_bits": "3.0",
        "SQNR": "10.0",
        "target": "7.0",
        "best target": "16.0",
    }
    summary = json.loads(json.dumps(two.summary()))
    assert summary["strategies"]["a"]["best target"][-1]["mean"] == 17.0
    assert summary["corner"] == {"avg_bits": 4.0, "SQNR": 10.0}
    picture(two, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
