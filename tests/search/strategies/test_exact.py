"""Exhaustive search, greedy search and integer programming on the bank's errors, each against what brute force says."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from q2.errors import ConfigError
from q2.passes import Step
from q2.search.space import Indices
from q2.search.strategies.base import Problem, Strategy
from q2.search.strategies.exhaustive import Exhaustive
from q2.search.strategies.greedy import Greedy
from q2.search.strategies.ilp import IlpError
from q2.testing import tiny_problem


def recipes(strategy: Strategy, problem: Problem) -> Indices:
    """Return the recipes (recipes, choices) that a strategy asks for, which learns nothing."""
    asked = strategy.searcher(problem).ask(problem.trials)
    return np.array([problem.space.encode(proposal.recipe) for proposal in asked])


def everything(problem: Problem) -> Indices:
    return np.array(list(itertools.product(*(range(len(choice.options)) for choice in problem.space.choices))))


def bits(problem: Problem, indices: Indices) -> NDArray[np.float64]:
    return problem.costs.value("avg_bits", indices)


def errors(problem: Problem, indices: Indices) -> NDArray[np.float64]:
    return problem.costs.value("quantized_error", indices)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("strategy", [Greedy(), IlpError(), Exhaustive(top=2)])
def test_an_option_whose_error_is_not_finite_comes_after_all_others(strategy: Strategy, bad: float) -> None:
    problem = tiny_problem(trials=64)
    table = problem.costs.tables["quantized_error"].copy()
    table[2, 1], table[4, 0] = bad, bad
    costs = replace(problem.costs, tables={**problem.costs.tables, "quantized_error": table})
    found = recipes(strategy, replace(problem, costs=costs))
    good = np.isfinite(errors(replace(problem, costs=costs), found))
    assert good.any()
    if isinstance(strategy, Exhaustive):
        assert good.all()
    else:  # the loosest recipe has the least error
        assert good[0]
        sound = everything(problem)[np.isfinite(errors(replace(problem, costs=costs), everything(problem)))]
        assert errors(problem, found)[0] == pytest.approx(errors(problem, sound).min())


def test_exhaustive_search_tries_every_recipe_once_and_says_how_many() -> None:
    said: list[Step] = []
    problem = replace(tiny_problem(trials=729), show=said.append)
    assert recipes(Exhaustive(), problem).tolist() == everything(problem).tolist()
    assert [step.summary for step in said] == ["3^6 recipes, 729"]


def test_exhaustive_search_counts_only_what_keeps_to_the_constraints() -> None:
    said: list[Step] = []
    problem = replace(tiny_problem(trials=200, constraints=["avg_bits <= 3.5"]), show=said.append)
    space = everything(problem)
    inside = space[bits(problem, space) <= 3.5]
    assert recipes(Exhaustive(), problem).tolist() == inside.tolist()
    assert [step.summary for step in said] == [f"3^6 recipes, 729, {len(inside)} satisfy the constraints"]


def test_a_space_larger_than_the_trials_is_refused_with_its_size_and_a_way_out() -> None:
    with pytest.raises(ConfigError) as error:
        Exhaustive().searcher(tiny_problem(trials=100))
    assert str(error.value) == (
        "search.trials: 100 are too few for 729 recipes; use more trials, "
        "fewer options (search.strategies.exhaustive.top) or fixed layers (search.layers)"
    )


def test_the_reduced_space_has_the_options_with_the_least_error() -> None:
    problem = tiny_problem(trials=64)
    found = recipes(Exhaustive(top=2), problem)
    assert len(np.unique(found, axis=0)) == 64
    worst = problem.costs.tables["quantized_error"].argmax(axis=1)
    assert not (found == worst).any()


def test_the_greedy_path_takes_the_cheapest_bits_first() -> None:
    problem = tiny_problem(trials=50)
    path = recipes(Greedy(), problem)
    error, size = errors(problem, path), bits(problem, path)
    assert path[0].tolist() == problem.costs.tables["quantized_error"].argmin(axis=1).tolist()
    assert size[-1] == problem.costs.extent("avg_bits")[0]
    slopes = np.diff(error) / -np.diff(size)
    assert (np.diff(slopes) >= -1e-12).all()
    for at, after in itertools.pairwise(path):  # each move is the best of all moves from where it starts
        rate = []
        for choice, option in itertools.product(range(6), range(3)):
            moved = at.copy()
            moved[choice] = option
            if bits(problem, moved) < bits(problem, at):
                rate.append((errors(problem, moved) - errors(problem, at)) / (bits(problem, at) - bits(problem, moved)))
        taken = (errors(problem, after) - errors(problem, at)) / (bits(problem, at) - bits(problem, after))
        assert taken == pytest.approx(min(rate))


def test_one_greedy_recipe_is_the_first_that_keeps_to_the_constraint() -> None:
    path = recipes(Greedy(), tiny_problem(trials=50))
    problem = tiny_problem(trials=1, constraints=["avg_bits <= 3.6"])
    expected = path[(bits(problem, path) <= 3.6).argmax()]
    assert recipes(Greedy(), problem).tolist() == [expected.tolist()]


def test_greedy_search_says_where_its_path_misses_the_constraints() -> None:
    with pytest.raises(
        ConfigError, match=r"^search\.constraints: no recipe on the greedy path satisfies 'avg_bits <= 1'"
    ):
        Greedy().searcher(tiny_problem(constraints=["avg_bits <= 1"]))


def test_integer_programming_finds_the_least_error_of_every_budget() -> None:
    problem = tiny_problem(trials=8)
    space, found = everything(problem), recipes(IlpError(), problem)
    loosest, least = bits(problem, found[0]), problem.costs.extent("avg_bits")[0]
    assert found[0].tolist() == problem.costs.tables["quantized_error"].argmin(axis=1).tolist()
    budgets = np.linspace(loosest, least, 8)
    best = [errors(problem, space[bits(problem, space) <= budget + 1e-9]).min() for budget in budgets]
    assert sorted({*errors(problem, found).tolist()}) == pytest.approx(sorted({*map(float, best)}))


def test_integer_programming_keeps_to_bounds_on_other_metrics() -> None:
    low, high = tiny_problem().costs.extent("bops")
    problem = tiny_problem(trials=4, constraints=[f"bops <= {(low + high) / 2}", "avg_bits <= 3.8"])
    found, space = recipes(IlpError(), problem), everything(problem)
    inside = space[(problem.costs.value("bops", space) <= (low + high) / 2) & (bits(problem, space) <= 3.8)]
    assert errors(problem, found[0]) == pytest.approx(errors(problem, inside).min())
    assert bits(problem, found[-1]) == pytest.approx(bits(problem, inside).min())


def test_integer_programming_is_never_worse_than_greedy() -> None:
    for bound in (3.2, 3.4, 3.6, 3.8):
        problem = tiny_problem(trials=1, constraints=[f"avg_bits <= {bound}"])
        assert (
            errors(problem, recipes(IlpError(), problem)[0]) <= errors(problem, recipes(Greedy(), problem)[0]) + 1e-12
        )


def test_a_metric_that_is_no_sum_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^FID: is no sum over layers; these are: avg_bits, "):
        Greedy(metric="FID").searcher(tiny_problem())
