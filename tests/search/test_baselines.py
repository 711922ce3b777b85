"""Baselines: each option everywhere and full precision stand beside what a search found, and may be better."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from q2.search.evaluation.baselines import uniform
from q2.search.loop import BASELINE, measure, run
from q2.search.metrics.base import Metric
from q2.search.metrics.costs import AvgBits
from q2.search.metrics.judged import JudgeFid
from q2.search.metrics.paired import LatentSqnr
from q2.search.pictures import front_picture
from q2.search.report import Found, found
from q2.search.space import Space
from q2.search.trials.trial import Trial
from q2.settings import Fidelity
from tests.search.searches import SPACE, Here, Listed, problem, store
from tests.search.test_report import problem as weighing
from tests.search.test_report import trials

KINDS: dict[str, type[Metric]] = {"latent-SQNR": LatentSqnr, "avg_bits": AvgBits, "judge-fid": JudgeFid}
NEEDED: dict[Fidelity, list[str]] = {"weights": ["avg_bits"]}


def baseline(option: str, quality: float, bits: float) -> Trial:
    metrics = {"latent-SQNR": quality, "avg_bits": bits, "judge-fid": 20 - quality}
    return Trial({"a": option, "b": option}, metrics, strategy=BASELINE)


def own() -> list[Trial]:
    """The trials of test_report, none of which is a baseline."""
    return [replace(trial, recipe=dict(trial.recipe) | {"c": "uaq-4"}) for trial in trials()]


def beside(uaq_4: float, uaq_3: float = 7.0) -> Found:
    """The trials of test_report, with baselines of a quality (0.25 bits above each width) and full precision."""
    given = {"uaq-4 everywhere": baseline("uaq-4", uaq_4, 4.25), "uaq-3 everywhere": baseline("uaq-3", uaq_3, 3.25)}
    full = Trial({"a": "none", "b": "none"}, {"latent-SQNR": 100.0, "avg_bits": 16.0})
    return found(weighing(), own(), KINDS, baselines=given, full=full, shown=["judge-fid"])


def test_every_option_is_everywhere_once_and_none_is_left_to_full_precision() -> None:
    space = Space.of({"q": 1, "k": 1, "v": 1}, ["uaq-4", "kmeans-c-4", "uaq-2", "none"])
    limited = space.limited({"k": ["none"], "v": ["uaq-3", "uaq-4"]})
    assert uniform(limited) == {
        "uaq-4 in 2 of 3 layers": {"q": "uaq-4", "k": "none", "v": "uaq-4"},
        "kmeans-c-4 in 1 of 3 layers": {"q": "kmeans-c-4", "k": "none", "v": "uaq-4"},
        "uaq-2 in 1 of 3 layers": {"q": "uaq-2", "k": "none", "v": "uaq-3"},
        "uaq-3 in 1 of 3 layers": {"q": "uaq-4", "k": "none", "v": "uaq-3"},
    }
    assert list(uniform(space)) == ["uaq-4 everywhere", "kmeans-c-4 everywhere", "uaq-2 everywhere"]


def test_baselines_are_measured_once_have_no_number_and_no_part_in_the_budget(tmp_path: Path) -> None:
    engine, trials = Here(), store(tmp_path)
    first = measure(problem(3), uniform(SPACE), engine, trials, needed=NEEDED)
    assert {name: trial.metrics["avg_bits"] for name, trial in first.items()} == {
        "uaq-4 everywhere": 4.0,
        "uaq-3 everywhere": 3.0,
    }
    assert measure(problem(3), uniform(SPACE), engine, store(tmp_path), needed=NEEDED) == first
    assert engine.done == [None, None]
    searched = run(problem(3), Listed([1, 2, 4]), engine, trials, name="listed", needed=NEEDED)
    assert [trial.number for trial in searched.trials] == [0, 1, 2]
    assert sorted(trial.strategy for trial in trials) == [BASELINE, BASELINE, "listed", "listed", "listed"]


def test_a_second_strategy_takes_numbers_that_are_free(tmp_path: Path) -> None:
    trials = store(tmp_path)
    run(problem(3), Listed([1, 2, 3]), Here(), trials, name="first", needed=NEEDED)
    second = run(problem(3), Listed([2, 5, 6]), Here(), trials, name="second", needed=NEEDED)
    assert [trial.number for trial in second.trials] == [1, 3, 4]
    assert sorted(str(trial.number) for trial in trials) == ["0", "1", "2", "3", "4"]


def test_a_search_that_beats_the_baselines_says_by_what_it_was_chosen() -> None:
    result = beside(uaq_4=12.0)
    assert result.beaten
    assert result.best is not None
    assert result.best.number == 1
    assert result.verdict() == ("chosen: front-1.toml, target 4; the best baseline, uaq-4 everywhere, has 3.5")


def test_a_search_that_a_baseline_beats_says_so_and_keeps_the_baseline() -> None:
    result = beside(uaq_4=14.0)
    assert not result.beaten
    assert result.best is not None
    assert set(result.best.recipe.values()) == {"uaq-4"}
    assert result.verdict() == (
        "baseline not beaten: uaq-4 everywhere has target 5.5; the search's best has 4. recipe.toml is uaq-4 everywhere"
    )
    assert not any("chosen" in str(row[0]) for row in result.table().rows)


def test_a_tie_with_a_baseline_does_not_beat_it_and_full_precision_is_not_to_be_beaten() -> None:
    assert not beside(uaq_4=12.5).beaten
    full = beside(uaq_4=12.0).full
    assert full is not None
    assert full.metrics["latent-SQNR"] - 2 * full.metrics["avg_bits"] > 4  # by the target it would be best


def test_the_table_has_baselines_full_precision_and_every_metric_that_was_asked_for() -> None:
    table = beside(uaq_4=14.0).table()
    assert table.headers == ("recipe", "avg_bits", "target", "latent-SQNR dB", "judge-fid")
    assert [row[0] for row in table.rows] == [
        "front-0.toml",
        "front-1.toml",
        "uaq-3 everywhere",
        "front-2.toml",
        "front-3.toml uaq-4 everywhere ← not beaten",
        "full precision",
    ]
    assert table.rows[2][1:] == ("3.250", "0.5", "7", "13")
    assert table.rows[-1] == ("full precision", "16.000", "", "100", "")


def test_a_baseline_beyond_the_constraints_need_not_be_beaten() -> None:
    given = {"uaq-4 everywhere": baseline("uaq-4", 90.0, 4.25)}
    result = found(weighing(bound="avg_bits <= 4"), own(), KINDS, baselines=given)
    assert result.beaten
    assert result.verdict() == "chosen: front-1.toml, target 4; no baseline satisfies the constraints"
    none = found(weighing(bound="avg_bits <= 1"), own(), KINDS, baselines=given)
    assert (none.best, none.verdict()) == (None, "")
    failed = {"uaq-4 everywhere": Trial({"a": "uaq-4"}, state="failed", error="NaN", strategy=BASELINE)}
    table = found(weighing(), own(), KINDS, baselines=failed).table()
    assert table.rows[-1][0::2] == ("uaq-4 everywhere", "failed: NaN")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_has_the_baselines_by_name(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"front.{ending}"
    front_picture(beside(uaq_4=14.0), path)
    data = path.read_bytes()
    if ending == "svg":
        text = data.decode()
        assert all(word in text for word in ("uaq-4", "uaq-3", "baselines", "chosen: a baseline", "higher is better"))
        front_picture(beside(uaq_4=14.0), tmp_path / "again.svg")
    else:
        assert data.startswith(b"\x89PNG")
        assert np.frombuffer(data, np.uint8).size > 10_000
