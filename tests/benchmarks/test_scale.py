"""A simulated search on GPUs, and the driver that is measured with workers that take no time."""

import itertools
from pathlib import Path

import pytest

from benchmarks.scaling.driver import folder_bytes, messages, timed
from benchmarks.scaling.simulation import (
    SPREAD,
    Driver,
    Round,
    full,
    laddered,
    seconds_of,
    simulate,
    spread_of,
)
from q2.search.strategies.random import Random
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

SAME = (1.0, 1.0)


def ten(_: str) -> float:
    return 10.0


def test_a_trial_takes_passes_of_the_step_that_was_measured() -> None:
    assert seconds_of("full") == pytest.approx(1000 * 2 / 8 * 40 * 0.147)
    assert seconds_of("few-step") == pytest.approx(64 * 2 / 8 * 4 * 0.147)
    assert seconds_of("forward") == pytest.approx(32 * 2 / 8 * 0.147)


def test_trials_go_to_the_gpus_that_are_free_and_a_round_waits_for_all() -> None:
    assert simulate(full(5), 2, Driver(), ten, spread=SAME).wall == 30.0
    two = simulate([Round("full", 3), Round("full", 1)], 2, Driver(), ten, spread=SAME)
    assert (two.wall, two.worked) == (30.0, 40.0)
    assert two.busy == pytest.approx(2 / 3)
    assert simulate(full(3), 100, Driver(), ten, spread=SAME).busy == pytest.approx(0.03)


def test_the_driver_asks_before_a_round_and_does_one_thing_at_a_time() -> None:
    found = simulate(full(4), 4, Driver(ask=1.0, keep=2.0), ten, spread=SAME)
    assert found.wall == 4 * 1.0 + 10.0 + 4 * 2.0
    assert found.driver == 12.0
    slow = simulate(full(100), 50, Driver(keep=1.0), ten, spread=SAME)
    assert slow.wall >= 100.0  # the driver is the limit


def test_seconds_are_drawn_from_the_spread() -> None:
    found = simulate(full(4000), 1, Driver(), ten)
    mean = sum((a + b) / 2 for a, b in itertools.pairwise(SPREAD)) / (len(SPREAD) - 1)
    assert found.worked / 4000 == pytest.approx(10 * mean, rel=0.02)


def test_rungs_halve_every_batch() -> None:
    rounds = laddered(24, 16)
    assert [each.trials for each in rounds] == [16, 8, 4, 8, 4, 2]
    assert [each.fidelity for each in rounds[:3]] == ["forward", "few-step", "full"]


def test_the_spread_is_read_from_a_store(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path, Fingerprint("a", "b", "0.1.0"))
    with pytest.raises(ValueError, match="0 trials at 'few-step' say how long they took"):
        spread_of(tmp_path)
    trials = [Trial({"a": "uaq-4"}, {"x": 1.0}, seed=i, seconds=float(i), fidelity="few-step") for i in range(1, 22)]
    store.extend(trials)
    assert spread_of(tmp_path) == tuple(round((1 + 2 * i) / 11, 3) for i in range(11))


def test_the_driver_is_measured_without_its_workers(tmp_path: Path) -> None:
    found = timed(Random(), tmp_path / "trials", 30, 20)
    assert found.trials == len(TrialStore.read(tmp_path / "trials")) == 30
    assert found.ask > 0
    assert found.driver == Driver(found.ask, found.tell + found.rest)


def test_what_travels_grows_with_the_layers() -> None:
    few, many = messages(10), messages(100)
    assert 5 * few["job"] < many["job"] < 10_000
    assert many["result"] > many["job"]
    assert folder_bytes(2) == 2 * (3 * 1024**2 + 4 * 4 * 128**2)
