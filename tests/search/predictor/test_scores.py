"""What is built from scores is the best of all recipes, of a unit's variants as of single choices, and for one fold."""

import itertools

import numpy as np
import pytest

from q2.search.building.knapsack import Knapsack
from q2.search.objective.constraints import Constraint
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.scores import ScoredPart, chosen_of, groups_of

BOUNDS = (Constraint("avg_bits", "<=", 2.0), Constraint("bops", ">=", 2.0))


def problem(seed: int) -> tuple[list[ScoredPart], Floats, dict[str, Floats], Ints, Floats]:
    """Five choices with three options, in parts of two, two and one; all recipes, and what each scores in two folds."""
    rng = np.random.default_rng(seed)
    parts = []
    for own in ([0, 3], [1, 4], [2]):
        variants = np.array(list(itertools.product(range(3), repeat=len(own))))
        parts.append(ScoredPart(np.array(own), variants, rng.normal(size=(len(variants), 2))))
    tables = {name: rng.uniform(0, 1, (5, 3)) for name in ("avg_bits", "bops")}
    known = rng.normal(size=(5, 3))
    every = np.array(list(itertools.product(range(3), repeat=5)))
    scores = known[np.arange(5), every].sum(-1, keepdims=True)
    for part in parts:
        place = {tuple(variant): i for i, variant in enumerate(part.variants.tolist())}
        scores = scores + part.scores[[place[tuple(row)] for row in every[:, part.choices].tolist()]]
    return parts, known, tables, every, scores


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("fold", [None, 1])
def test_it_is_the_best_of_all_recipes_within_the_bounds(seed: int, count: int, fold: int | None) -> None:
    parts, known, tables, every, scores = problem(seed)
    inside = np.ones(len(every), bool)
    for bound in BOUNDS[:count]:
        inside &= bound.admitted(tables[bound.metric][np.arange(5), every].sum(-1))
    best = scores.mean(1) if fold is None else scores[:, fold]
    built = Knapsack(groups_of(parts, known, tables, fold)).solve(BOUNDS[:count])
    assert chosen_of(parts, built).tolist() == every[inside][best[inside].argmax()].tolist()
    assert built.score == pytest.approx(best[inside].max())


def test_a_bound_holds_within_what_the_solver_lets_pass() -> None:
    table = np.array([[1.0, 1.0 + 1e-8]] * 4)
    parts = [ScoredPart(np.array([i]), np.array([[0], [1]]), np.array([[0.0], [1.0]])) for i in range(4)]
    knapsack = Knapsack(groups_of(parts, np.zeros((4, 2)), {"avg_bits": table}))
    built = knapsack.solve([Constraint("avg_bits", "<=", 4.0 + 2.5e-8)])
    assert chosen_of(parts, built).sum() == 2
    assert knapsack.optimum([Constraint("avg_bits", "<=", 3.9)]) is None
