"""Optuna's samplers find good recipes, keep to constraints, climb the fidelities, and ask the same when resumed."""

import warnings
from collections import Counter
from pathlib import Path

import optuna
import pytest

from q2.errors import ConfigError
from q2.search.evaluation.jobs import Job
from q2.search.strategies.base import Objective
from q2.search.strategies.optuna import Optuna
from tests.search.strategies.tiny import Fake, measure, problem, recipes, search, space

SAMPLERS = ["tpe", "random", "nsgaii", "nsgaiii", "qmc", "gp", "brute-force", "cmaes"]
PARETO = [Objective("PSNR", "maximize"), Objective("avg_bits", "minimize")]


def options(sampler: str, **more: object) -> Optuna:
    return Optuna.from_table({"sampler": sampler, **more}, ".".join)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_asks_for_new_recipes_the_same_again_when_resumed(sampler: str, tmp_path: Path) -> None:
    of = problem(14, seed=3)
    given = options(sampler, batch=4, population=4)
    first = search(given, problem(8, seed=3), Fake(), tmp_path / "cut")
    resumed = search(given, of, engine := Fake(), tmp_path / "cut")
    whole = search(given, of, Fake(), tmp_path / "whole")
    assert recipes(resumed) == recipes(whole)
    assert recipes(resumed)[:8] == recipes(first)
    assert len(engine.jobs) == 6
    assert len(set(recipes(whole))) == 14
    other = search(given, problem(14, seed=4), Fake(), tmp_path / "other")
    assert recipes(other) != recipes(whole)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_goes_on_after_its_first_recipes_have_all_failed(sampler: str, tmp_path: Path) -> None:
    engine = Fake(lambda job: (job.number or 0) < 8)
    done = search(options(sampler, batch=4, population=4), problem(14), engine, tmp_path / "trials")
    assert [trial.state for trial in done.trials] == ["failed"] * 8 + ["complete"] * 6
    assert len(set(recipes(done))) == 14


def test_a_recipe_that_no_number_ranks_at_a_rung_goes_no_further(tmp_path: Path) -> None:
    rank = "log(SQNR - 26.5)"
    engine = Fake()
    of = problem(8)
    done = search(options("random", batch=8, rungs=["forward"], rank_by=rank), of, engine, tmp_path / "trials")
    went_on = [job.recipe for job in engine.jobs if job.fidelity == "full"]
    assert len(done.trials) > len(went_on) > 0
    assert all(measure(recipe, "forward")["SQNR"] > 26.5 for recipe in went_on)
    assert any(measure(job.recipe, "forward")["SQNR"] < 26.5 for job in engine.jobs)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_space_that_is_exhausted_ends_the_search(sampler: str, tmp_path: Path) -> None:
    layers = 1 if sampler == "gp" else 2
    done = search(options(sampler, batch=4, population=4), problem(50, layers=layers), Fake(), tmp_path / "trials")
    assert len(done.trials) == 4**layers
    assert len(set(recipes(done))) == 4**layers


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "nsgaiii"])
def test_samplers_that_honour_constraints_find_what_random_ones_do_not(sampler: str, tmp_path: Path) -> None:
    of = problem(12, layers=12, constraints=["avg_bits <= 3.3"])
    engine = Fake()
    done = search(options(sampler, population=12), of, engine, tmp_path / "trials")
    assert len(done.trials) == 12
    assert all(measure(job.recipe, "weights")["avg_bits"] <= 3.3 + 1e-9 for job in engine.jobs)


def test_a_sampler_that_cannot_learn_a_constraint_says_which_can(tmp_path: Path) -> None:
    of = problem(12, layers=10, constraints=["avg_bits <= 3"])
    with pytest.raises(ConfigError, match="none of 2000 recipes drawn by 'random' satisfies avg_bits <= 3; tpe, gp"):
        search(options("random"), of, Fake(), tmp_path / "trials")


def test_tpe_beats_random(tmp_path: Path) -> None:
    best = {}
    for sampler in ("tpe", "random"):
        found = []
        for seed in range(3):
            of = problem(60, layers=10, seed=seed)
            done = search(options(sampler), of, Fake(), tmp_path / f"{sampler}{seed}")
            found.append(max(of.values(done.trials)))
        best[sampler] = sum(found) / len(found)
    assert best["tpe"] > best["random"]


def test_objectives_are_summed_in_units_of_their_scale(tmp_path: Path) -> None:
    bits = []
    for scale in (0.1, 10.0):
        objectives = [Objective("PSNR", "maximize", 1.0), Objective("avg_bits", "minimize", scale)]
        done = search(options("tpe"), problem(40, objectives=objectives), Fake(), tmp_path / f"{scale}")
        bits.append(sum(trial.metrics["avg_bits"] for trial in done.trials[20:]) / 20)
    assert bits[0] + 0.3 < bits[1]


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "nsgaiii", "random"])
def test_several_objectives_make_a_front(sampler: str, tmp_path: Path) -> None:
    given = options(sampler, combine="pareto", population=8)
    of = problem(24, layers=4, objectives=PARETO, constraints=["avg_bits <= 4.2"])
    done = search(given, of, Fake(), tmp_path / "trials")
    assert len(done.trials) == 24
    assert recipes(search(given, of, Fake(), tmp_path / "again")) == recipes(done)


def test_rungs_send_the_better_half_on_and_cost_nothing_of_the_budget(tmp_path: Path) -> None:
    engine = Fake()
    given = options("tpe", batch=8, rungs=["forward", "few-step"], rank_by="SQNR - 3*avg_bits")
    done = search(given, problem(7), engine, tmp_path / "trials")
    counts = Counter(job.fidelity for job in engine.jobs)
    assert counts == {"forward": 28, "few-step": 14, "full": 7}
    assert sum(trial.fidelity == "full" for trial in done.trials) == 7
    for start in range(0, 28, 8):
        jobs = [job for job in engine.jobs if job.fidelity == "forward"][start : start + 8]
        ranked = sorted(jobs, key=lambda job: -_rank(job))
        went = {tuple(job.recipe.items()) for job in engine.jobs if job.fidelity == "few-step"}
        half = len(jobs) // 2
        assert [tuple(job.recipe.items()) in went for job in ranked] == [True] * half + [False] * half


def _rank(job: Job) -> float:
    found = measure(job.recipe, "forward")
    return found["SQNR"] - 3 * found["avg_bits"]


def test_what_fails_at_a_rung_goes_no_further(tmp_path: Path) -> None:
    bad = space().layers.keys()
    failed: list[str] = []

    def fails(job: Job) -> bool:
        if job.fidelity == "forward" and job.recipe[next(iter(bad))] == "uaq-3" and not failed:
            failed.append(str(job.recipe))
            return True
        return False

    engine = Fake(fails=fails)
    search(options("random", batch=8, rungs=["forward"], rank_by="SQNR"), problem(4), engine, tmp_path / "trials")
    assert len(failed) == 1
    assert failed[0] not in [str(job.recipe) for job in engine.jobs if job.fidelity == "full"]


def test_a_failed_trial_is_told_as_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    engine = Fake(fails=lambda job: job.number == 2)
    done = search(options("tpe", batch=2), problem(6), engine, tmp_path / "trials")
    assert [trial.state for trial in done.trials] == ["complete"] * 2 + ["failed"] + ["complete"] * 3


@pytest.mark.parametrize(
    ("table", "more", "message"),
    [
        ({"sampler": "tpee"}, {}, "sampler: should be 'tpe', 'random', .*not \"tpee\""),
        ({"smpler": "tpe"}, {}, "smpler: unknown key; did you mean 'sampler'"),
        ({"keep": 1.0}, {}, "keep: .*less than 1"),
        ({"combine": "pareto"}, {}, "combine: 'pareto' needs two or more objectives"),
        ({"combine": "pareto", "sampler": "cmaes"}, {"objectives": PARETO}, "'cmaes' optimizes a single objective"),
        ({"combine": "pareto", "rungs": ["forward"]}, {"objectives": PARETO}, "rungs: ranking a batch needs a single"),
        ({"rungs": ["full"]}, {}, "rungs: expected fidelities cheaper than 'full'"),
        ({"rungs": ["few-step", "forward"]}, {}, "the cheapest first"),
        ({"rungs": ["forward"]}, {}, "rank_by: 'forward' does not measure 'PSNR'; use an expression .*SQNR"),
        ({"sampler": "cmaes", "storage": "sqlite:///x.db"}, {}, "storage: Optuna's 'cmaes' stores pickles"),
    ],
)
def test_options_that_do_not_fit_are_one_line(table: dict[str, object], more: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Optuna.from_table(table, ".".join).searcher(problem(**more))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_optuna_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search(options("brute-force"), problem(4), Fake(), tmp_path / "trials")
        of = problem(12, layers=3, constraints=["avg_bits <= 3.9"])
        done = search(options("gp", batch=10), of, Fake(), tmp_path / "more")
        assert max(trial.metrics["avg_bits"] for trial in done.trials) < 3.9
    assert [str(warning.message) for warning in caught if warning.category is not ResourceWarning] == []
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
