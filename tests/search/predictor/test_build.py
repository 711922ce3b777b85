"""Recipes from labels are the best that there are: against all of them."""

import itertools

import numpy as np
import pytest

from q2.errors import ConfigError
from q2.search.objective.constraints import Constraint
from q2.search.predictor.build import Builder
from q2.search.predictor.combined import combined
from q2.search.predictor.label import Labels
from q2.search.predictor.scores import Level
from tests.search.predictor.labelled import OPTIONS, every, labels, space


def score(of: Labels, recipe: tuple[int, ...], level: Level) -> float:
    if level == "node":
        return sum(float(of.nodes[i, option].sum()) for i, option in enumerate(recipe))
    place = {tuple(variant): i for i, variant in enumerate(of.units[0].variants.tolist())}
    pairs = zip(of.units, (recipe[:2], recipe[2:]), strict=True)
    return sum(float(unit.scores[place[own]].sum()) for unit, own in pairs)


@pytest.mark.parametrize("level", ["unit", "node"])
@pytest.mark.parametrize("text", ["", "avg_bits <= 3", "avg_bits <= 2.4", "bops <= 800", "bops >= 900"])
def test_a_build_is_the_best_of_all_recipes(level: Level, text: str) -> None:
    of, where = labels(), space()
    bounds = [Constraint.parse(text, list(where.tables))] if text else []

    def fits(recipe: tuple[int, ...]) -> bool:
        rows = np.arange(4), np.array(recipe)
        return all(b.admits(float(where.tables[b.metric][rows].sum() + where.constants[b.metric])) for b in bounds)

    best = max(filter(fits, every()), key=lambda recipe: score(of, recipe, level))
    built = Builder(where, combined([of], level)).recipe(bounds)
    assert tuple(built.chosen) == best
    assert built.score == pytest.approx(score(of, best, level))
    assert where.layers(built.chosen) == {
        name: OPTIONS[option] for name, option in zip(where.choices, best, strict=True)
    }


def test_without_bounds_a_build_is_the_union_of_every_units_best_variant() -> None:
    of = labels(3)
    built = Builder(space(), combined([of], "unit")).recipe()
    best = dict(itertools.chain.from_iterable(unit.best.items() for unit in of.units))
    assert dict(zip(of.choices, built.chosen.tolist(), strict=True)) == best


def test_a_front_has_the_best_of_every_budget_and_no_recipe_twice() -> None:
    where, parts = space(), combined([labels()], "node")
    builder = Builder(where, parts)
    budgets = builder.budgets("avg_bits", 5)
    assert budgets[0] == 2.0
    assert budgets[-1] == pytest.approx(builder.recipe().costs["avg_bits"])
    front = builder.front("avg_bits", budgets)
    found = [tuple(each.chosen) for each in front]
    assert len(set(found)) == len(found) == len({each.score for each in front})
    assert [each.score for each in front] == sorted(each.score for each in front)
    for each in front:
        bound = Constraint.parse(each.within, ["avg_bits"])
        assert each.score == builder.recipe([bound]).score


def test_a_budget_that_nothing_keeps_to_is_one_line() -> None:
    builder = Builder(space(), combined([labels()], "unit"))
    with pytest.raises(ConfigError, match="'avg_bits <= 1.5': no recipe satisfies it, the least is 2"):
        builder.recipe([Constraint("avg_bits", "<=", 1.5)])
