"""Recipes put together from units' variants: every choice once, costs as the recipe has them, the best there is."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from q2.errors import ConfigError
from q2.search.building.variants import Piece, Variants, knapsack_of, pieces_of, put_together, single_choices
from q2.search.objective.constraints import Constraint
from q2.search.space import Space, SpaceChoice
from q2.search.strategies.base import Problem
from q2.testing import tiny_graph, tiny_problem


def variants_of(problem: Problem) -> list[Variants]:
    """All variants of both units, with scores that are no sum over choices."""
    rng = np.random.default_rng(0)
    found = []
    for piece in pieces_of(problem.graph, problem.space):
        options = np.array(list(itertools.product(range(3), repeat=len(piece.choices))))
        found.append(Variants(piece, options, rng.normal(size=len(options))))
    return found


def test_the_best_recipe_of_units_within_a_budget_is_the_best_of_all() -> None:
    problem = tiny_problem()
    costs, variants = problem.costs, variants_of(problem)
    bound = Constraint("avg_bits", "<=", 3.5)
    built = knapsack_of(costs, variants).solve([bound])
    recipe = put_together(problem.space, variants, built)
    assert built.costs == pytest.approx(costs.metrics(problem.space.decode(recipe)))
    attn, ff = variants
    best = max(
        attn.scores[i] + ff.scores[j]
        for i, j in itertools.product(range(81), range(9))
        if bound.holds(costs, np.concatenate([attn.options[i], ff.options[j]]))
    )
    assert built.score == pytest.approx(best)


def test_choices_with_options_of_their_own_are_put_together_rightly() -> None:
    problem = tiny_problem(layers={"ff": ["uaq-3", "uaq-4"], "to_q": ["uaq-4"]})
    variants = single_choices(problem.space, -problem.costs.tables["quantized_error"])
    recipe = put_together(problem.space, variants, knapsack_of(problem.costs, variants).solve())
    found = problem.costs.value("quantized_error", recipe)
    assert found == pytest.approx(problem.costs.extent("quantized_error")[0])
    assert problem.space.decode(recipe)["attn.to_q"] == "uaq-4"


def test_a_choice_belongs_to_the_first_unit_that_holds_it_and_strangers_stand_alone() -> None:
    tied = SpaceChoice(("attn.to_out", "ff.up"), ("uaq-4",), 64)
    space = Space((SpaceChoice(("attn.to_q",), ("uaq-4",), 64), tied, SpaceChoice(("ff.down", "x"), ("uaq-4",), 64)))
    stranger = SpaceChoice(("elsewhere",), ("uaq-4",), 8)
    pieces = pieces_of(tiny_graph(), Space((*space.choices, stranger)))
    assert pieces == [Piece("attn", (0, 1)), Piece("ff", (2,)), Piece("elsewhere", (3,))]


def test_units_that_share_or_leave_out_a_choice_are_refused() -> None:
    problem = tiny_problem()
    attn, ff = variants_of(problem)
    with pytest.raises(ConfigError, match=r"^units: 'ff\.up' is in 0 of them, expected one$"):
        knapsack_of(problem.costs, [attn])
    with pytest.raises(ConfigError, match=r"^units: 'ff\.up' is in 2 of them, expected one$"):
        knapsack_of(problem.costs, [attn, ff, replace(ff, scores=ff.scores + 1)])
