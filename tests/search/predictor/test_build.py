"""The knapsack is exact: against all combinations, at unit and node level, and without what was found before."""

import itertools

import numpy as np
import pytest

from q2.search.predictor.build import Bound, Group, solve
from q2.search.predictor.dataset import Floats, Ints


def problem(seed: int) -> tuple[list[Group], list[Bound], Ints, Floats]:
    """Five choices with three options, in groups of two, two and one; all recipes, and what each scores."""
    rng = np.random.default_rng(seed)
    groups = []
    for own in ([0, 3], [1, 4], [2]):
        variants = np.array(list(itertools.product(range(3), repeat=len(own))))
        groups.append(Group(np.array(own), variants, rng.normal(size=len(variants))))
    tables = rng.uniform(0, 1, (2, 5, 3))
    every = np.array(list(itertools.product(range(3), repeat=5)))
    scores = np.zeros(len(every))
    for group in groups:
        place = {tuple(variant): i for i, variant in enumerate(group.variants.tolist())}
        scores += group.scores[[place[tuple(row)] for row in every[:, group.choices].tolist()]]
    return groups, [Bound(tables[0], 2.0), Bound(-tables[1], -2.0)], every, scores


def cost(bound: Bound, chosen: Ints) -> Floats:
    return np.asarray(bound.table[np.arange(5), chosen].sum(-1))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [0, 1, 2])
def test_it_finds_the_best_of_all_recipes_within_the_bounds(seed: int, count: int) -> None:
    groups, bounds, every, scores = problem(seed)
    inside = np.all([cost(bound, every) <= bound.most for bound in bounds[:count]], axis=0) & np.ones(len(every), bool)
    found = solve(groups, bounds[:count])
    assert found is not None
    assert found.tolist() == every[inside][scores[inside].argmax()].tolist()


def test_what_is_ruled_out_comes_in_the_order_of_scores() -> None:
    groups, bounds, every, scores = problem(0)
    inside = cost(bounds[0], every) <= bounds[0].most
    best = every[inside][np.argsort(-scores[inside])]
    without: list[Ints] = []
    for expected in best[:5]:
        found = solve(groups, bounds[:1], without)
        assert found is not None
        assert found.tolist() == expected.tolist()
        without.append(found)


def test_a_bound_holds_exactly_and_none_is_none() -> None:
    table = np.array([[1.0, 1.0 + 1e-8]] * 4)
    groups = [Group(np.array([i]), np.array([[0], [1]]), np.array([0.0, 1.0])) for i in range(4)]
    found = solve(groups, [Bound(table, 4.0 + 2.5e-8)])
    assert found is not None
    assert found.sum() == 2
    assert solve(groups, [Bound(table, 3.9)]) is None
