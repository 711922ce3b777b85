"""The predictor's search: beats random, keeps to bounds, repeats nothing, and goes on where it was."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from q2.errors import ConfigError, PredictorError
from q2.passes import Step
from q2.search.building.knapsack import Knapsack
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.loop import SearchRun, run
from q2.search.metrics.base import Array
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.predictor.label import Labels
from q2.search.predictor.scores import ScoredPart, chosen_of, groups_of
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.trained import Trained
from q2.search.space import Space
from q2.search.strategies.base import Problem
from q2.search.strategies.predictor import Predictor
from q2.search.strategies.random import Random
from q2.search.trials.store import Fingerprint, TrialStore
from tests.search.predictor.searches import OPTIONS, Measured, problem, sensitivities

NEEDED = {"forward": ["quality"]}


def searched(of: Problem, strategy: Predictor | Random, engine: Measured | None = None) -> tuple[SearchRun, Measured]:
    store = TrialStore.open(of.folder / "trials", Fingerprint("tiny", "0", "0.1.0"))
    engine = engine or Measured(of.costs)
    return run(of, strategy.searcher(of), engine, store, name=strategy.name, needed=NEEDED), engine  # type: ignore[arg-type]


def best(of: Problem, done: SearchRun) -> float:
    return max(of.values([trial for trial in done.trials if trial.state == "complete"]))


def optimum(of: Problem) -> float:
    """Return the greatest value that a recipe of the problem can have."""
    table = -of.costs.tables["quantized_error"] * sensitivities(of.costs) - 2 * of.costs.tables["avg_bits"]
    parts = [ScoredPart(np.array([i]), np.arange(table.shape[1])[:, None], row[:, None]) for i, row in enumerate(table)]
    built = Knapsack(groups_of(parts, np.zeros_like(table), of.costs.tables)).solve(of.constraints)
    chosen = chosen_of(parts, built)
    return float(table[np.arange(len(table)), chosen].sum())


@pytest.mark.parametrize("bounds", [(), ("avg_bits <= 3.4",)])
def test_it_comes_much_nearer_to_the_optimum_than_random_and_repeats_nothing(
    tmp_path: Path, bounds: tuple[str, ...]
) -> None:
    of = problem(tmp_path / "a", 80, *bounds)
    done, _ = searched(of, Predictor())
    chance, _ = searched(problem(tmp_path / "b", 80, *bounds), Random())
    assert len(done.trials) == len({trial.id for trial in done.trials}) == 80
    assert optimum(of) - best(of, done) < 0.35 * (optimum(of) - best(of, chance))
    for bound in of.constraints:
        assert all(bound.admits(trial.metrics[bound.metric]) for trial in done.trials)
    assert [t.recipe for t in done.trials[:48]] == [t.recipe for t in chance.trials[:48]]


def test_a_search_that_was_stopped_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    whole, _ = searched(problem(tmp_path / "a", 60), Predictor())
    part = problem(tmp_path / "b", 60)
    store = TrialStore.open(part.folder / "trials", Fingerprint("tiny", "0", "0.1.0"))
    store.extend(whole.trials[:50])
    again, engine = searched(part, Predictor())
    assert [trial.recipe for trial in again.trials] == [trial.recipe for trial in whole.trials]
    assert engine.jobs == 10


def test_failed_trials_are_not_learnt_from_and_not_tried_again(tmp_path: Path) -> None:
    of = problem(tmp_path, 60)
    done, _ = searched(of, Predictor(), Measured(of.costs, fail=(3, 9, 40, 45)))
    assert [trial.number for trial in done.trials if trial.state == "failed"] == [3, 9, 40, 45]
    assert len({trial.id for trial in done.trials}) == 60


def test_choices_with_fewer_options_keep_to_them(tmp_path: Path) -> None:
    layers = {"attn1": ("kmeans-c-4", "kmeans-c-3"), "proj_out": ("uaq-4",)}
    of = problem(tmp_path, 50, layers=layers)
    done, _ = searched(of, Predictor())
    assert len(done.trials) == 50
    labels = Labels.load(tmp_path / "predictor" / "labels.npz")
    for i, name in enumerate(labels.choices):
        finite = {labels.options[j] for j in np.flatnonzero(np.isfinite(labels.nodes[i, :, 0]))}
        assert finite == set(of.space.choices[of.space.layers[name]].options)


@pytest.mark.parametrize("fails", [range(30), range(20, 36), range(0, 60, 2)])
def test_where_too_many_random_trials_fail_it_draws_more_before_it_learns(tmp_path: Path, fails: range) -> None:
    of = problem(tmp_path, 60)
    done, _ = searched(of, Predictor(), Measured(of.costs, list(fails)))
    assert len(done.trials) == 60
    good = [trial.state == "complete" for trial in done.trials]
    drawn = next(n for n in range(36, 60) if sum(good[:n]) >= 15)
    whole, _ = searched(problem(tmp_path / "whole", 60), Random())
    assert [t.recipe for t in done.trials[:drawn]] == [t.recipe for t in whole.trials[:drawn]]
    assert [t.recipe for t in done.trials[drawn:]] != [t.recipe for t in whole.trials[drawn:]]


@pytest.mark.parametrize("scores", ["labels", "effects"])
def test_networks_are_trained_and_kept_with_labels_and_space(
    tmp_path: Path, scores: Literal["labels", "effects"]
) -> None:
    steps: list[Step] = []
    of = problem(tmp_path, 20, layers={"attn1": ("kmeans-c-4", "kmeans-c-3")})
    object.__setattr__(of, "show", steps.append)
    done, _ = searched(of, Predictor(scores=scores, rounds=1, folds=2, epochs=3))
    assert len({trial.id for trial in done.trials}) == 20
    assert [step.title for step in steps] == ["train", "label", "build", "sensitivity"]
    assert "SRCC of others: avg_bits" in steps[0].summary
    assert "most tolerant" in steps[-1].summary
    folder = tmp_path / "predictor"
    space, labels = NodeSpace.load(folder / "space.npz"), Labels.load(folder / "labels.npz")
    made = labels.made
    assert space.made == made
    assert (made.by, made.trials, made.fidelity) == ("q2 search", str(tmp_path / "trials"), "forward")
    assert (made.scores, made.level) == (("networks", "unit") if scores == "labels" else ("effects", "node"))
    assert dict(made.known) == {"avg_bits": -2.0}  # of the target, which the scores leave out
    assert (made.scale_unit == 1.0) == (scores == "effects")
    assert Trained.load(folder).fields == space.fields
    assert labels.choices == space.choices


def test_a_target_of_costs_alone_is_learnt_as_a_whole(tmp_path: Path) -> None:
    of = problem(tmp_path, 60, target="-100*quantized_error - avg_bits")
    done, _ = searched(of, Predictor())
    table = -100 * of.costs.tables["quantized_error"] - of.costs.tables["avg_bits"]
    assert best(of, done) > table.max(1).sum() - 0.2 * np.ptp(of.values(done.trials))


@pytest.mark.parametrize(
    ("options", "trials", "line"),
    [
        (Predictor(random=0.0), 60, "random: expected a share above 0 and up to 1, not 0"),
        (Predictor(folds=1), 60, "folds: expected 2 or more, not 1"),
        (
            Predictor(),
            20,
            "search.trials: 12 of 20 are random (search.strategies.predictor.random), but 5 folds need at least 15",
        ),
    ],
)
def test_options_that_cannot_be_are_one_line(tmp_path: Path, options: Predictor, trials: int, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        options.searcher(problem(tmp_path, trials))
    assert str(error.value) == line


def test_a_constant_target_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PredictorError, match="have the same value: nothing to learn$"):
        searched(problem(tmp_path, 60, target="0*quality"), Predictor())


def test_no_constraint_is_broken_by_the_solvers_tolerance(tmp_path: Path) -> None:
    of = problem(tmp_path, 60, "avg_bits <= 3.25", "quantized_error >= 0.5")
    done, _ = searched(of, Predictor(rounds=1))
    assert all(Constraint("avg_bits", "<=", 3.25).admits(trial.metrics["avg_bits"]) for trial in done.trials)


class _Decibels(Measured):
    """Tells the noise of the weighted errors as SQNR."""

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        for result in super().run(jobs):
            noise = max(-result.trial.metrics["quality"], 1e-9)
            metrics = {**result.trial.metrics, "SQNR": -10 * math.log10(noise)}
            yield replace(result, trial=replace(result.trial, metrics=metrics))


def with_none(folder: Path, trials: int) -> Problem:
    """Return a search at 3.4 bits or fewer whose choices may stay exact, at 16 bits."""
    of = problem(folder, trials, "avg_bits <= 3.4")
    space = Space.of_graph(of.graph, (*OPTIONS, "none"), ties=False)
    exact = {"avg_bits": of.costs.tables["avg_bits"][:, :1] * 4, "quantized_error": np.zeros((len(space), 1))}
    tables = {name: np.hstack([table, exact[name]]) for name, table in of.costs.tables.items()}
    costs = replace(of.costs, space=space, tables=tables)
    return replace(of, space=space, costs=costs, target=Target.parse("SQNR", ["SQNR", *tables]))


def least_noise(of: Problem, table: Array) -> float:
    """Return the highest SQNR, in dB, that the constraints allow, with noises (choices, options)."""
    parts = [
        ScoredPart(np.array([i]), np.arange(table.shape[1])[:, None], -row[:, None]) for i, row in enumerate(table)
    ]
    built = Knapsack(groups_of(parts, np.zeros_like(table), of.costs.tables)).solve(of.constraints)
    return -10 * math.log10(table[np.arange(len(table)), chosen_of(parts, built)].sum())


def test_with_choices_quantized_alone_it_starts_at_the_optimum_and_these_trials_count(tmp_path: Path) -> None:
    of = with_none(tmp_path, 80)
    count = len(of.space) + 1
    done, _ = searched(of, Predictor(alone="forward", folds=2), _Decibels(of.costs))
    assert len(done.trials) == len({trial.id for trial in done.trials}) == 80
    alone, others = done.trials[:count], done.trials[count:]
    assert [sum(option != "none" for option in trial.recipe.values()) for trial in alone] == [0] + [1] * len(of.space)
    (bound,) = of.constraints
    assert all(bound.admits(trial.metrics["avg_bits"]) for trial in others)
    table = of.costs.tables["quantized_error"] * sensitivities(of.costs)
    most = least_noise(of, table)
    assert others[0].metrics["SQNR"] == pytest.approx(most, abs=1e-6)
    assert np.median([trial.metrics["SQNR"] for trial in others]) > most - 1


def test_at_a_cheaper_fidelity_choices_alone_do_not_count_and_what_cannot_be_is_said(tmp_path: Path) -> None:
    of = replace(with_none(tmp_path, 24), fidelity="full")
    searcher = Predictor(alone="forward", folds=2).searcher(of)
    probes = searcher.ask(1)
    assert len(probes) == len(of.space) + 1
    assert {probe.fidelity for probe in probes} == {"forward"}
    with pytest.raises(ConfigError, match="alone: expected the search's fidelity, 'forward', or a cheaper one"):
        Predictor(alone="few-step").check(with_none(tmp_path, 80))
    with pytest.raises(ConfigError, match=r"search.trials: 2 of 26 are random .* but 2 folds need at least 8"):
        Predictor(alone="forward", folds=2).check(with_none(tmp_path, len(of.space) + 5))
    count = len(of.space) + 1
    with pytest.raises(ConfigError, match=rf"search.trials: {count} are too few: {count} trials quantize one"):
        Predictor(alone="forward").check(with_none(tmp_path, count))
    with pytest.raises(ConfigError, match="needs the option 'none' too"):
        Predictor(alone="forward").check(problem(tmp_path, 80))


def test_with_gradients_it_starts_at_their_optimum_and_no_trial_is_spent_on_them(tmp_path: Path) -> None:
    of = with_none(tmp_path, 40)
    table = of.costs.tables["quantized_error"] * sensitivities(of.costs)
    asked: list[int] = []

    def gradients(passes: int, estimate: str, memory: float) -> Array:
        asked.append(passes)
        return np.where(table == table.max(), np.inf, table)

    given = replace(of, gradient_errors=gradients)
    done, _ = searched(given, Predictor(gradients=8, folds=2), _Decibels(of.costs))
    assert asked == [8]
    assert len({trial.id for trial in done.trials}) == 40
    most = least_noise(of, table)
    assert done.trials[0].metrics["SQNR"] == pytest.approx(most, abs=1e-6)
    for options, line in (
        (Predictor(gradients=8, alone="forward"), "gradients: and 'alone' both estimate the noise of options"),
        (Predictor(gradients=-1), "gradients: expected 0 or more, not -1"),
    ):
        with pytest.raises(ConfigError, match=line):
            options.check(given)
    with pytest.raises(ConfigError, match="needs a loaded denoiser"):
        Predictor(gradients=8, folds=2).searcher(of)
