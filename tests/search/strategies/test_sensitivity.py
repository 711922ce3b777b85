"""Sensitivities measured one choice at a time, and the recipes that follow, against what brute force says."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from q2.errors import ConfigError
from q2.search.strategies.base import Problem, Proposal
from q2.search.strategies.sensitivity import Sensitivity
from q2.search.trials.trial import Trial
from q2.testing import tiny_problem

OPTIONS = ("kmeans-c-4", "uaq-3", "none")
GAINS = np.array([1.0, 300.0, 0.02, 5.0, 1000.0, 0.3])


def planted(trials: int = 3, constraints: Sequence[str] = ()) -> Problem:
    """Return a search where ``none`` has no error and 16 bits."""
    problem = tiny_problem(options=OPTIONS, trials=trials, constraints=constraints)
    tables = {name: table.copy() for name, table in problem.costs.tables.items()}
    weights = np.array([float(choice.weights) for choice in problem.space.choices])
    tables["quantized_error"][:, 2], tables["avg_bits"][:, 2] = 0.0, 16 * weights / weights.sum()
    return replace(problem, costs=replace(problem.costs, tables=tables))


def measured(problem: Problem, recipe: Mapping[str, str], *, fails: bool = False) -> Trial:
    """Return a trial whose error is the sum of the layers', each times its gain."""
    if fails:
        return Trial(recipe, fidelity="few-step", number=0, state="failed", error="planted")
    places = problem.space.places(problem.space.encode(recipe))
    own = problem.costs.tables["quantized_error"][np.arange(len(places)), places]
    ratio = float(GAINS @ own)
    return Trial(recipe, {"latent-SQNR": -10 * math.log10(ratio) if ratio else 200.0}, fidelity="few-step", number=0)


def probed(problem: Problem, failing: Sequence[int] = ()) -> tuple[list[Proposal], list[Proposal]]:
    searcher = Sensitivity().searcher(problem)
    probes = list(searcher.ask(1))
    searcher.tell([measured(problem, each.recipe, fails=i in failing) for i, each in enumerate(probes)])
    return probes, list(searcher.ask(problem.trials))


def test_every_choice_is_quantized_alone_at_the_cheaper_fidelity() -> None:
    problem = planted()
    probes, found = probed(problem)
    assert {probe.fidelity for probe in probes} == {"few-step"}
    assert {proposal.fidelity for proposal in found} == {None}
    exact, *alone = ([option for option in probe.recipe.values() if option != "none"] for probe in probes)
    assert exact == []
    assert [len(options) for options in alone] == [1] * 6


@pytest.mark.parametrize("budget", [3.6, 4.5, 8.0])
def test_the_recipe_has_the_least_weighted_error_within_the_budget(budget: float) -> None:
    problem = planted(trials=1, constraints=[f"avg_bits <= {budget}"])
    _, (found,) = probed(problem)
    every = np.array(list(itertools.product(range(3), repeat=6)))
    places = problem.space.places(every)
    errors = (problem.costs.tables["quantized_error"][np.arange(6), places] * GAINS).sum(1)
    inside = problem.costs.value("avg_bits", every) <= budget
    best = every[inside][errors[inside].argmin()]
    assert found.recipe == problem.space.decode(best)


def test_a_layer_whose_trial_failed_counts_as_the_middle_of_the_others() -> None:
    problem = planted(trials=2)
    _, found = probed(problem, failing=[3])
    assert len(found) == 2
    with pytest.raises(ConfigError, match="all trials of single layers failed"):
        probed(problem, failing=range(7))


def test_what_cannot_be_measured_alone_is_said_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match=r"'attn.to_q' needs the option 'none' too"):
        Sensitivity().check(tiny_problem())
    forward = replace(planted(), fidelity="forward")
    with pytest.raises(ConfigError, match=r"expected a cheaper one than the search's, 'forward'"):
        Sensitivity().check(forward)
