"""Budgets on measured noise and on gradients, against what brute force says; files of measurements that do not fit."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from q2.errors import ConfigError
from q2.quant.sensitivity import SensitivityTable
from q2.search.metrics.base import Array
from q2.search.strategies.base import Estimator, Problem, Proposal
from q2.search.strategies.fisher import Fisher
from q2.search.strategies.mixdq import MixDQ
from q2.search.subject import Subject
from q2.search.trials.trial import Trial
from q2.testing import tiny_problem

OPTIONS = ("kmeans-c-4", "uaq-3", "none")
NOISE = np.random.default_rng(5).lognormal(-6, 2, (6, 3)) * [1.0, 1.0, 0.0]  # nothing that a bank's errors tell


def planted(trials: int = 1, budget: float = 4.5, checkpoint: str = "") -> Problem:
    problem = tiny_problem(options=OPTIONS, trials=trials, constraints=[f"avg_bits <= {budget}"])
    return replace(problem, subject=Subject(fingerprint=checkpoint))


def noise(problem: Problem, recipe: Mapping[str, str]) -> float:
    return float(NOISE[np.arange(6), problem.space.encode(recipe)].sum())


def measured(problem: Problem, proposals: list[Proposal], failing: tuple[int, ...] = ()) -> list[Trial]:
    trials = []
    for i, proposal in enumerate(proposals):
        value = noise(problem, proposal.recipe)
        metrics = {} if i in failing else {"SQNR": -10 * math.log10(value) if value else 100.0}
        trials.append(
            Trial(proposal.recipe, metrics, fidelity="forward", state="failed" if i in failing else "complete")
        )
    return trials


def best(problem: Problem, table: Array) -> dict[str, str]:
    every = np.array(list(itertools.product(range(3), repeat=6)))
    inside = every[problem.costs.value("avg_bits", every) <= problem.constraints[0].bound]
    return problem.space.decode(inside[table[np.arange(6), inside].sum(1).argmin()])


@pytest.mark.parametrize("budget", [3.6, 4.5, 8.0])
def test_every_option_is_measured_alone_and_the_recipe_has_the_least_noise(budget: float) -> None:
    problem = planted(budget=budget)
    searcher = MixDQ().searcher(problem)
    probes = list(searcher.ask(1))
    assert {probe.fidelity for probe in probes} == {"forward"}
    quantized = [[pair for pair in probe.recipe.items() if pair[1] != "none"] for probe in probes]
    assert quantized[0] == []
    assert [len(each) for each in quantized[1:]] == [1] * 12
    assert len({each[0] for each in quantized[1:]}) == 12
    searcher.tell(measured(problem, probes))
    (found,) = searcher.ask(1)
    assert found.fidelity is None
    assert found.recipe == best(problem, NOISE)


def test_an_option_whose_trial_failed_is_the_last_to_be_taken() -> None:
    problem = planted()
    searcher = MixDQ().searcher(problem)
    probes = list(searcher.ask(1))
    known = NOISE.copy()
    known[2, 0] = 1e9
    searcher.tell(measured(problem, probes, failing=(5,)))
    (found,) = searcher.ask(1)
    assert [option for option in probes[5].recipe.values() if option != "none"] == ["kmeans-c-4"]
    assert found.recipe == best(problem, known)
    searcher = MixDQ().searcher(problem)
    with pytest.raises(ConfigError, match="all trials of single layers failed"):
        searcher.tell(measured(problem, list(searcher.ask(1)), failing=tuple(range(13))))


def table(problem: Problem, **changes: object) -> SensitivityTable:
    rows = {
        choice.name: {option: -10 * math.log10(NOISE[i, j]) for j, option in enumerate(OPTIONS[:2])}
        for i, choice in enumerate(problem.space.choices)
    }
    return replace(SensitivityTable("net", "00ff", "forward", base_db=math.inf, sqnr_db=rows), **changes)  # type: ignore[arg-type]


def test_with_a_file_nothing_is_measured(tmp_path: Path) -> None:
    problem, file = planted(checkpoint="00ff"), tmp_path / "measured.json"
    table(problem, base_db=100.0).save(file)
    strategy = MixDQ(file=str(file))
    strategy.check(problem)
    assert list(strategy.fidelities()) == []
    (found,) = strategy.searcher(problem).ask(1)
    assert found.recipe == best(problem, NOISE)
    with pytest.raises(ConfigError, match=r"measured on weights 00ff, not on 0000"):
        strategy.check(replace(problem, subject=Subject(fingerprint="0000")))
    table(problem, base={"attn.to_q": "uaq-3"}).save(file)
    with pytest.raises(ConfigError, match="measured starting from a recipe, expected from full precision"):
        strategy.check(problem)
    lacking = table(problem)
    del lacking.sqnr_db["ff.up"]["uaq-3"]
    lacking.save(file)
    with pytest.raises(ConfigError, match=r"lacks uaq-3 of 'ff.up'; run the pass sensitivity"):
        strategy.check(problem)


def test_what_mixdq_cannot_measure_is_said_first() -> None:
    with pytest.raises(ConfigError, match=r"'attn.to_q' needs the option 'none' too"):
        MixDQ().check(tiny_problem())
    with pytest.raises(ConfigError, match=r"expected a cheaper one than the search's, 'forward'"):
        MixDQ().check(replace(planted(), fidelity="forward"))


def test_fisher_takes_the_least_sum_of_what_gradients_say() -> None:
    asked: list[tuple[int, str, float]] = []

    def errors(passes: int, estimate: Estimator, memory: float) -> Array:
        asked.append((passes, estimate, memory))
        overflowing = NOISE.copy()
        overflowing[0, 1] = np.inf
        return overflowing

    problem = replace(planted(budget=3.9), gradient_errors=errors)
    (found,) = Fisher(passes=8, estimate="diagonal").searcher(problem).ask(1)
    assert asked == [(8, "diagonal", 2.0)]
    known = NOISE.copy()
    known[0, 1] = 1e9
    assert found.recipe == best(problem, known)
    with pytest.raises(ConfigError, match="passes: expected 1 or more, not 0"):
        Fisher(passes=0).check(problem)
    with pytest.raises(ConfigError, match="the fidelity 'weights' does not run it; use ilp-error"):
        Fisher().searcher(replace(planted(), fidelity="weights"))
    with pytest.raises(ConfigError, match="needs a loaded denoiser"):
        Fisher().searcher(planted())
