"""The strategy keeps to q2's suite, cools down, and takes worse steps while it is hot."""

import pytest
from q2_plugin_annealing.strategy import Annealing, _Annealer

from q2.errors import ConfigError
from q2.plugins import Plugins
from q2.search.kinds import STRATEGIES
from q2.search.strategies.base import Problem
from q2.testing import StrategySuite, tiny_problem

OPTIONS = ("uaq-2", "uaq-3", "uaq-4")


class TestAnnealing(StrategySuite):
    strategy = Annealing()
    random = True

    def test_it_gets_better(self) -> None:
        """The last recipes are better than the first on average."""
        problem = self.problem()
        values = [problem.values(told)[0] for told in self.history(problem, most=1)]
        third = len(values) // 3
        assert sum(values[-third:]) > sum(values[:third])

    def test_chains_advance_together(self) -> None:
        """As many are asked for at a time as there are chains."""
        assert [len(told) for told in self.history(self.problem())] == [4] * 6


def _annealer(problem: Problem, options: Annealing) -> _Annealer:
    searcher = options.searcher(problem)
    assert isinstance(searcher, _Annealer)
    searcher.first = [1.0, 3.0]  # a standard deviation of 1
    return searcher


def test_the_temperature_falls_from_hot_to_cold_in_units_of_the_spread() -> None:
    problem = tiny_problem(options=OPTIONS, trials=101)
    searcher = _annealer(problem, Annealing(hot=0.5, cold=0.005))
    assert [searcher.temperature(number) for number in (0, 50, 100)] == pytest.approx([0.5, 0.05, 0.005])


def test_a_worse_step_is_taken_as_often_as_the_temperature_says() -> None:
    """At T = 1 a loss of ln 2 is taken half of the time; a gain always."""
    searcher = _annealer(tiny_problem(options=OPTIONS, trials=10_000), Annealing(hot=1.0, cold=1.0))
    taken = [searcher._takes(-0.6931, number) for number in range(2000)]
    assert sum(taken) / 2000 == pytest.approx(0.5, abs=0.05)
    assert all(searcher._takes(0.1, number) for number in range(100))


def test_options_that_make_no_sense_are_refused() -> None:
    problem = tiny_problem(options=OPTIONS, trials=4)
    for options, key in ((Annealing(chains=0), "chains"), (Annealing(flips=0), "flips"), (Annealing(hot=0), "cold")):
        with pytest.raises(ConfigError, match=f"^{key}: expected"):
            options.check(problem)


def test_q2_finds_it() -> None:
    assert Plugins(["q2_plugin_annealing"], entry_points=False).of(STRATEGIES).load("annealing") is Annealing
