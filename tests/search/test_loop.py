"""The loop: trials are measured once, kept at once, and asked for again as they were when a search goes on."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from q2.errors import Q2Error
from q2.search.evaluation.jobs import Job
from q2.search.loop import SearchRun, run
from q2.search.metrics.finite import NotFiniteError
from q2.search.objective.target import Target
from q2.search.strategies.base import Searcher
from q2.search.strategies.random import Random
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from q2.settings import Fidelity
from tests.search.searches import Here, Listed, problem, recipe, store

NEEDED: dict[Fidelity, list[str]] = {"weights": ["avg_bits"]}


def go(
    searcher: Searcher, engine: Here, trials: TrialStore, count: int, needed: dict[Fidelity, list[str]] = NEEDED
) -> SearchRun:
    return run(problem(count), searcher, engine, trials, name="listed", needed=needed)


def fail(job: Job) -> dict[str, float]:
    raise ZeroDivisionError(f"trial {job.number} has no luck")


def test_a_search_has_its_trials_and_no_more_and_is_told_them_in_the_order_asked(tmp_path: Path) -> None:
    searcher, engine, trials = Listed(range(8)), Here(), store(tmp_path)
    done = go(searcher, engine, trials, 5)
    assert [trial.recipe for trial in done.trials] == [recipe(number) for number in range(5)]
    assert [trial.number for trial in done.trials] == [0, 1, 2, 3, 4]
    assert engine.done == [4, 3, 2, 1, 0]
    assert searcher.told == done.trials == list(trials)
    assert (done.measured, done.spent) == (5, {"score": 1.25})
    assert {trial.strategy for trial in trials} == {"listed"}


def test_a_searcher_that_asks_for_no_more_ends_the_search(tmp_path: Path) -> None:
    assert len(go(Listed(range(3), step=2), Here(), store(tmp_path), 50).trials) == 3


def test_a_recipe_asked_for_twice_is_measured_once_and_told_twice(tmp_path: Path) -> None:
    searcher, engine = Listed([1, 2, 1, 2], step=3), Here()
    done = go(searcher, engine, store(tmp_path), 4)
    assert engine.done == [1, 0]
    assert [trial.number for trial in searcher.told] == [0, 1, 0, 1]
    assert done.measured == 2


def test_known_trials_are_told_and_not_measured(tmp_path: Path) -> None:
    trials = store(tmp_path)
    trials.add(Trial(recipe(1), {"avg_bits": 3.75}, fidelity="weights", number=9))
    trials.add(Trial(recipe(2), {"avg_bits": 3.75}, fidelity="weights", seed=5))  # of another evaluation
    searcher, engine = Listed([0, 1, 2]), Here()
    done = go(searcher, engine, trials, 3)
    assert sorted(engine.done, key=str) == [0, 2]
    assert searcher.told[1].number == 9
    assert done.measured == 2


def test_a_trial_that_lacks_a_metric_is_measured_again_and_has_both(tmp_path: Path) -> None:
    trials = store(tmp_path)
    go(Listed([0, 1]), Here(), trials, 2)
    engine = Here(lambda job: {"KID": 0.5})
    done = go(Listed([0, 1]), engine, trials, 2, {"weights": ["avg_bits", "KID"]})
    assert done.measured == 2
    assert [set(trial.metrics) for trial in done.trials] == [{"avg_bits", "KID"}] * 2
    assert len(store(tmp_path)) == 2
    assert go(Listed([0, 1]), engine, trials, 2, {"weights": ["avg_bits", "KID"]}).measured == 0


@pytest.mark.parametrize("step", [1, 2, 100])
def test_failures_in_a_row_end_the_search_with_the_reason_however_few_are_asked_at_a_time(
    tmp_path: Path, step: int
) -> None:
    engine = Here(fail)
    with pytest.raises(Q2Error, match=r"^3 trials in a row failed, the last: trial \d has no luck$"):
        go(Listed(range(8), step), engine, store(tmp_path), 8)
    assert len(engine.done) == 3
    assert [trial.state for trial in store(tmp_path)] == ["failed"] * 3


def overflow(job: Job) -> dict[str, float]:
    raise NotFiniteError(f"latents of trial {job.number} are not finite")


def test_recipes_that_overflow_end_no_search_that_has_found_one(tmp_path: Path) -> None:
    searcher = Listed([0] * 3 + [1] * 40, step=1)
    done = go(searcher, Here(lambda job: overflow(job) if job.number else {}), store(tmp_path), 43)
    assert [trial.state for trial in done.trials] == ["complete"] * 3 + ["failed"] * 40


def test_a_search_may_begin_with_recipes_that_overflow(tmp_path: Path) -> None:
    done = go(Listed(range(8), step=1), Here(lambda job: overflow(job) if job.number != 7 else {}), store(tmp_path), 8)
    assert [trial.state for trial in done.trials] == ["failed"] * 7 + ["complete"]


@pytest.mark.parametrize(("trials", "tried"), [(12, 11), (40, 21)])
def test_a_search_in_which_everything_overflows_ends(tmp_path: Path, trials: int, tried: int) -> None:
    engine = Here(overflow)
    with pytest.raises(Q2Error, match=rf"^{tried} trials in a row failed, the last: latents of trial \d+ are not"):
        go(Listed([number % 8 for number in range(trials)], step=1), engine, store(tmp_path), trials)
    assert len(engine.done) == tried


def test_a_machine_that_breaks_later_ends_the_search_after_ten_errors(tmp_path: Path) -> None:
    engine = Here(lambda job: fail(job) if job.number else {})
    with pytest.raises(Q2Error, match=r"^10 trials in a row failed, the last: trial 10 has no luck$"):
        go(Listed([0, *[1] * 39], step=1), engine, store(tmp_path), 40)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("1/(avg_bits - 4)", "target '1/(avg_bits - 4)': trial 0: division by zero in (1.0 / (avg_bits - 4.0))"),
        ("log(avg_bits - 3.9) - avg_bits", "trial 1: the value is nan with avg_bits = 3.75"),
        ("exp(1e5*avg_bits - 3.8e5)", "trial 0: the value is inf with avg_bits = 4"),
    ],
)
def test_a_trial_whose_target_is_not_finite_has_failed_and_the_search_goes_on(
    tmp_path: Path, target: str, reason: str
) -> None:
    told: list[Trial] = []
    of = replace(problem(8), target=Target.parse(target, ["avg_bits"]))
    searcher = Listed(range(8), step=1)
    done = run(of, searcher, Here(), store(tmp_path), name="", needed=NEEDED, after=told.append)
    failed = [trial for trial in done.trials if trial.state == "failed"]
    assert 0 < len(failed) < 8
    assert reason in failed[0].error
    assert np.isfinite(of.values([trial for trial in done.trials if trial.state == "complete"])).all()
    assert done.trials == searcher.told == told
    assert {trial.state for trial in store(tmp_path)} == {"complete"}  # what was measured may serve another target


def test_failures_between_successes_are_told_and_tried_again_by_the_next_search(tmp_path: Path) -> None:
    def even(job: Job) -> dict[str, float]:
        return fail(job) if job.number in {1, 3, 5} else {}

    searcher, trials = Listed(range(7), step=1), store(tmp_path)
    done = go(searcher, Here(even), trials, 7)
    assert [trial.number for trial in searcher.told if trial.state == "failed"] == [1, 3, 5]
    assert len(done.trials) == 7
    engine = Here()
    again = go(Listed(range(7)), engine, trials, 7)
    assert sorted(map(str, engine.done)) == ["1", "3", "5"]
    assert {trial.state for trial in again.trials} == {"complete"}


@pytest.mark.parametrize("broken_at", [0, 1, 2, 4])
def test_a_search_that_was_interrupted_goes_on_to_the_same_recipes(tmp_path: Path, broken_at: int) -> None:
    whole = go(Random().searcher(problem(7)), Here(), store(tmp_path / "whole"), 7)

    def interrupt(job: Job) -> dict[str, float]:
        if len(engine.done) > broken_at:
            raise KeyboardInterrupt
        return {}

    engine = Here(interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(Random().searcher(problem(7)), engine, store(tmp_path / "parts"), 7)
    kept = len(store(tmp_path / "parts"))
    assert kept == min(broken_at, len({trial.id for trial in whole.trials}))
    rest = go(Random().searcher(problem(7)), Here(), store(tmp_path / "parts"), 7)
    assert [trial.recipe for trial in rest.trials] == [trial.recipe for trial in whole.trials]
    assert list(store(tmp_path / "parts")) == list(store(tmp_path / "whole"))
    assert rest.measured == len(store(tmp_path / "whole")) - kept


def test_everyone_is_told_of_a_trial_once_it_is_on_disk(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def after(trial: Trial) -> None:
        seen.append((trial.id, len(store(tmp_path))))

    run(problem(3), Listed([0, 1, 2]), Here(), store(tmp_path), name="", needed=NEEDED, after=after)
    assert [count for _, count in seen] == [1, 2, 3]
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name, _ in seen)
