"""The strategies that ship pass the suite that plugins' strategies are held to; one that breaks its rules does not."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from q2.search.metrics.base import Array
from q2.search.strategies.base import Estimator, Problem, Proposal, Searcher, Strategy
from q2.search.strategies.evolution import Evolution
from q2.search.strategies.exhaustive import Exhaustive
from q2.search.strategies.fisher import Fisher
from q2.search.strategies.greedy import Greedy
from q2.search.strategies.ilp import IlpError
from q2.search.strategies.mixdq import MixDQ
from q2.search.strategies.optuna import Optuna
from q2.search.strategies.predictor import Predictor
from q2.search.strategies.random import Random
from q2.search.strategies.sensitivity import Sensitivity
from q2.search.trials.trial import Trial
from q2.testing import StrategySuite


class TestRandom(StrategySuite):
    strategy = Random()
    random = True


class TestEvolution(StrategySuite):
    strategy = Evolution(population=6, top=2)
    random = True


class TestOptuna(StrategySuite):
    strategy = Optuna(batch=4)
    random = True


class TestExhaustive(StrategySuite):
    strategy = Exhaustive()
    options = ("kmeans-c-4", "uaq-3")
    trials = 64


class TestGreedy(StrategySuite):
    strategy = Greedy()


class TestIlpError(StrategySuite):
    strategy = IlpError()


class TestSensitivity(StrategySuite):
    strategy = Sensitivity()
    options = ("none", "kmeans-c-4", "uaq-3")


class TestMixDQ(StrategySuite):
    strategy = MixDQ()
    options = ("none", "kmeans-c-4", "uaq-3")


class TestPredictor(StrategySuite):
    strategy = Predictor(folds=2, epochs=1)
    random = True


class TestFisher(StrategySuite):
    strategy = Fisher()

    def problem(self, *, seed: int = 0, constraints: Sequence[str] = ()) -> Problem:
        return _with_gradients(super().problem(seed=seed, constraints=constraints))

    def tiny(self) -> Problem:
        return _with_gradients(super().tiny())


def _with_gradients(problem: Problem) -> Problem:
    def errors(passes: int, estimate: Estimator, memory: float) -> Array:
        return np.asarray(problem.costs.tables["quantized_error"])

    return replace(problem, gradient_errors=errors)


@dataclass(frozen=True)
class Careless(Strategy):
    """Asks for one recipe too many, and forgets the constraints and the seed."""

    name: ClassVar[str] = "careless"

    def searcher(self, problem: Problem) -> Searcher:
        return CarelessSearcher(problem)


class CarelessSearcher(Searcher):
    calls = 0

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def ask(self, most: int) -> Sequence[Proposal]:
        CarelessSearcher.calls += 1
        return [Proposal(self.problem.space.draw(CarelessSearcher.calls, i)) for i in range(most)]

    def tell(self, trials: Sequence[Trial]) -> None:
        pass


class CarelessSuite(StrategySuite):
    strategy = Careless()


def test_the_suite_finds_a_strategy_that_depends_on_more_than_it_was_told() -> None:
    with pytest.raises(AssertionError):
        CarelessSuite().test_one_seed_gives_one_search()


def test_the_suite_finds_a_strategy_that_breaks_constraints() -> None:
    with pytest.raises(AssertionError):
        CarelessSuite().test_it_keeps_to_the_constraints()


def test_the_suite_finds_a_strategy_that_asks_for_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: CarelessSearcher, most: int) -> list[Proposal]:
        return [Proposal(self.problem.space.draw(0, i)) for i in range(most + 1)]

    monkeypatch.setattr(CarelessSearcher, "ask", ask)
    with pytest.raises(AssertionError, match="more recipes than were asked for"):
        CarelessSuite().test_it_proposes_recipes_of_the_space_and_no_more_than_asked(None)
