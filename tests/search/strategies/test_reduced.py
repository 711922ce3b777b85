"""Strategies in a reduced space: what they propose is of it, and AutoBuild's evolution has its rounds."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from q2.graph import Graph
from q2.search.reduced import ReducedSpace, UnitVariants
from q2.search.space import Space
from q2.search.strategies.base import Problem, Strategy
from q2.search.strategies.evolution import Evolution
from q2.search.strategies.exhaustive import Exhaustive
from q2.search.strategies.optuna import Optuna
from q2.search.strategies.random import Random
from q2.search.subject import Subject
from tests.search.strategies import tiny

PAIR = (("uaq-4", "uaq-3"), ("uaq-3", "kmeans-c-3"), ("kmeans-c-4", "uaq-4"))
FILE = ReducedSpace(
    Subject("tiny"),
    {"layer5": ("uaq-3", "kmeans-c-4")},
    (UnitVariants("one", ("layer0", "layer1"), PAIR), UnitVariants("two", ("layer2", "layer3"), PAIR[:2])),
)


def reduced(file: ReducedSpace = FILE, trials: int = 48, constraints: tuple[str, ...] = (), layers: int = 6) -> Problem:
    problem = tiny.problem(trials, layers=layers, constraints=constraints)
    space = file.applied(problem.space, "tiny")
    return replace(problem, space=space, costs=tiny.costs(space))


def inside(recipe: tuple[str, ...]) -> bool:
    return recipe[:2] in PAIR and recipe[2:4] in PAIR[:2] and recipe[5] in ("uaq-3", "kmeans-c-4")


@pytest.mark.parametrize(
    "strategy",
    [
        Random(),
        Evolution(population=10),
        Exhaustive(),
        Optuna(batch=8),
        Optuna(sampler="nsgaii", population=8),
        Optuna(sampler="brute-force"),
        Optuna(sampler="random"),
    ],
    ids=lambda strategy: f"{strategy.name}-{getattr(strategy, 'sampler', '')}",
)
@pytest.mark.parametrize("bounds", [(), ("avg_bits <= 3.7",)])
def test_what_is_proposed_is_of_the_space(strategy: Strategy, bounds: tuple[str, ...], tmp_path: Path) -> None:
    assert strategy.keeps_units
    problem = reduced(constraints=bounds)
    assert problem.space.size == 3 * 2 * 4 * 2
    done = tiny.search(strategy, problem, tiny.Fake(), tmp_path)
    found = tiny.recipes(done)
    assert found
    assert all(map(inside, found))
    if not isinstance(strategy, Random):
        assert len(set(found)) == len(found)
    if not bounds and not isinstance(strategy, Random):
        assert len(found) == 48
    assert all(trial.metrics["avg_bits"] <= 3.7 + 1e-9 for trial in done.trials if bounds)


def test_numbers_stand_for_variants_where_a_sampler_takes_numbers(tmp_path: Path) -> None:
    pytest.importorskip("cmaes")
    done = tiny.search(Optuna(sampler="cmaes", batch=8), reduced(trials=16), tiny.Fake(), tmp_path)
    assert all(map(inside, tiny.recipes(done)))


def test_exhaustive_keeps_the_variants_of_least_error() -> None:
    problem = reduced()
    errors = tiny.costs(problem.space).tables["avg_bits"]
    costs = replace(problem.costs, tables={**problem.costs.tables, "quantized_error": errors})
    searcher = Exhaustive(top=1).searcher(replace(problem, costs=costs))
    (proposal,) = searcher.ask(10)
    assert tuple(proposal.recipe.values())[:4] == ("uaq-3", "kmeans-c-3", "uaq-3", "kmeans-c-3")


def test_autobuilds_evolution_is_50_random_recipes_and_4_rounds_of_50(tmp_path: Path) -> None:
    units = tuple(UnitVariants(f"u{i}", (f"layer{2 * i}", f"layer{2 * i + 1}"), PAIR) for i in range(6))
    file = ReducedSpace(Subject("tiny"), {}, units)
    problem = reduced(file, 250, layers=12)
    asked = []
    searcher = Evolution().searcher(problem)
    rounds = searcher.ask

    def ask(most: int) -> object:
        found = rounds(most)
        asked.append(len(found))
        return found

    searcher.ask = ask  # type: ignore[method-assign, assignment]
    strategy = Evolution()
    object.__setattr__(strategy, "searcher", lambda _: searcher)
    done = tiny.search(strategy, problem, tiny.Fake(), tmp_path)
    assert asked == [50] * 5
    assert len(set(tiny.recipes(done))) == 250
    for trial in done.trials:
        assert all((trial.recipe[a], trial.recipe[b]) in PAIR for a, b in (unit.layers for unit in units))
    values = [trial.metrics["PSNR"] - 4 * trial.metrics["avg_bits"] for trial in done.trials]
    assert max(values) == pytest.approx(best(problem.space, problem))


def best(space: Space, problem: Problem) -> float:
    """The best target of a space whose target is a sum over units."""
    indices = space.encode(space.draw(0, 0))

    def value() -> float:
        metrics = tiny.measure(space.decode(indices), "full")
        return metrics["PSNR"] - 4 * metrics["avg_bits"]

    for group in space.groups:
        scores = []
        for variant in group.variants:
            indices[list(group.choices)] = variant
            scores.append(value())
        indices[list(group.choices)] = group.variants[scores.index(max(scores))]
    return value()


def test_from_the_full_space_mutants_may_have_any_variant(tmp_path: Path) -> None:
    class Graphs:
        def units(self, *, ties: bool) -> list[object]:
            return []

    problem = replace(tiny.problem(60), graph=cast(Graph, Graphs()))
    done = tiny.search(Evolution(population=20, top=0), problem, tiny.Fake(), tmp_path)
    mutants = tiny.recipes(done)[20:]
    assert {option for recipe in mutants for option in recipe} == set(tiny.OPTIONS)
    assert len(set(tiny.recipes(done))) == 60
