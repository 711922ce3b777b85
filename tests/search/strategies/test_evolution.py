"""Evolution draws as random search does, mutates the front with variants that did well, and finds better recipes."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from q2.search.building.feasible import admitted, repaired
from q2.search.building.variants import Piece, pieces_of
from q2.search.metrics.pareto import pareto_front
from q2.search.space import Indices, Space
from q2.search.strategies.base import Problem, Strategy
from q2.search.strategies.evolution import Evolution, best_variants
from q2.search.strategies.random import Random
from q2.testing import tiny_graph, tiny_problem, trial_of
from q2.testing.problems import tiny_costs


def searched(strategy: Strategy, problem: Problem) -> tuple[Indices, NDArray[np.float64]]:
    """Return the recipes (trials, choices) of a search and their values (trials,)."""
    searcher = strategy.searcher(problem)
    tried: list[Indices] = []
    values: list[float] = []
    while len(tried) < problem.trials:
        asked = searcher.ask(problem.trials - len(tried))
        trials = [trial_of(problem, proposal.recipe) for proposal in asked]
        searcher.tell(trials)
        tried += [problem.space.encode(trial.recipe) for trial in trials]
        values += problem.values(trials)
    return np.array(tried), np.array(values)


def test_units_partition_the_choices() -> None:
    pieces = pieces_of(tiny_graph(), tiny_problem().space)
    assert pieces == [Piece("attn", (0, 1, 2, 3)), Piece("ff", (4, 5))]


def test_the_first_round_is_that_of_random_search() -> None:
    problem = tiny_problem(trials=10)
    ours = Evolution(population=10).searcher(problem).ask(10)
    theirs = [proposal.recipe for proposal in Random().searcher(problem).ask(20)]
    new = [recipe for i, recipe in enumerate(theirs) if recipe not in theirs[:i]]
    assert [proposal.recipe for proposal in ours] == new[:10]


def test_no_recipe_is_asked_for_twice() -> None:
    tried, _ = searched(Evolution(population=20), tiny_problem(trials=200))
    assert len(np.unique(tried, axis=0)) == 200


def test_a_mutant_has_units_of_a_parent_and_of_the_reduced_space() -> None:
    problem = tiny_problem(trials=26)
    tried, values = searched(Evolution(population=20, top=2), problem)
    first, value = tried[:20], values[:20]
    bits = problem.costs.value("avg_bits", first)
    parents = first[pareto_front(np.stack([bits, -value], axis=1))]
    pieces = pieces_of(problem.graph, problem.space)
    reduced = best_variants(problem.space.columns, pieces, first, value, 2)
    for mutant in tried[20:]:
        for piece, variants in zip(pieces, reduced, strict=True):
            own = list(piece.choices)
            allowed = [*variants.tolist(), *parents[:, own].tolist()]
            assert mutant[own].tolist() in allowed


def larger(**given: Any) -> Problem:
    """A problem of 24 choices, each a unit of its own."""
    space = Space.of({f"layer{i}": 64 + 8 * i for i in range(24)}, ["kmeans-c-4", "uaq-4", "kmeans-c-3", "uaq-3"])
    costs = tiny_costs(space)
    costs.tables["quantized_error"][:] *= 0.03
    return replace(tiny_problem(**given), space=space, costs=costs)


def test_it_finds_more_than_random_search() -> None:
    for seed in range(4):
        problem = larger(trials=150, seed=seed)
        ours, theirs = (searched(strategy, problem)[1].max() for strategy in (Evolution(population=30), Random()))
        assert ours > theirs


def test_variants_are_ranked_by_the_values_of_the_trials_that_had_them() -> None:
    columns = np.tile(np.arange(2), (2, 1))
    tried = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 50)
    values = np.array([0.0, 1.0, 1.0, 0.0] * 50)  # no choice matters by itself, together they do
    (found,) = best_variants(columns, [Piece("unit", (0, 1))], tried, values, 2)
    assert sorted(found.tolist()) == [[0, 1], [1, 0]]


def test_a_variant_that_no_trial_had_is_ranked_by_its_choices() -> None:
    columns = np.tile(np.arange(3), (2, 1))
    tried = np.array([[i, j] for i in range(3) for j in range(3) if (i, j) != (0, 2)] * 5)
    values = (tried[:, 1] - tried[:, 0]).astype(float)  # (0, 2) would be the best, and was never tried
    (found,) = best_variants(columns, [Piece("unit", (0, 1))], tried, values, 1)
    assert found.tolist() == [[0, 2]]


def test_bounds_that_random_recipes_miss_are_met_by_repair() -> None:
    low, high = larger().costs.extent("bops")
    problem = larger(constraints=[f"bops <= {low + 0.01 * (high - low)}"], trials=4)
    drawn = [problem.space.encode(problem.space.draw(0, i)) for i in range(200)]
    assert not admitted(problem.costs, problem.constraints, np.array(drawn)).any()
    tried, _ = searched(Evolution(), problem)
    assert admitted(problem.costs, problem.constraints, tried).all()


def test_repair_leaves_what_fits_and_gives_up_on_what_cannot_be_met() -> None:
    problem, rng = tiny_problem(constraints=["avg_bits <= 3.7"]), np.random.default_rng(0)
    least = problem.costs.tables["avg_bits"].argmin(axis=1)
    kept = repaired(problem.costs, problem.constraints, least, rng)
    assert kept is not None
    assert kept.tolist() == least.tolist()
    found = repaired(problem.costs, problem.constraints, np.zeros(6, np.intp), rng)
    assert found is not None
    assert admitted(problem.costs, problem.constraints, found)
    impossible = tiny_problem(constraints=["avg_bits <= 1"])
    assert repaired(impossible.costs, impossible.constraints, np.zeros(6, np.intp), rng) is None
