"""The strategy `annealing`: simulated annealing, several chains at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from q2.errors import ConfigError
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.trials.trial import Trial

__all__ = ["Annealing"]

ATTEMPTS = 1000


@dataclass(frozen=True)
class Annealing(Strategy):
    """Simulated annealing: a step that makes the target worse by d is taken with probability exp(-d / T).

    `chains` walks start from random recipes; a step changes `flips` options of a chain's recipe. T falls geometrically
    from `hot` to `cold` over the trials of the search. Both are shares of the spread (standard deviation) of the
    target among the chains' first recipes, so that they need not be chosen anew for every target. Chains advance
    together, one trial each, so `chains` trials can be evaluated at the same time.
    Source: Kirkpatrick, Gelatt and Vecchi, Optimization by Simulated Annealing, Science 220 (1983).
    """

    name: ClassVar[str] = "annealing"
    chains: int = 4
    flips: int = 2
    hot: float = 0.5
    cold: float = 0.02

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for options that make no sense."""
        for key in ("chains", "flips"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: expected 1 or more, not {getattr(self, key)}")
        if not 0 < self.cold <= self.hot:
            raise ConfigError(f"cold: expected a temperature above 0 and up to hot = {self.hot}, not {self.cold}")

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search."""
        return _Annealer(self, problem)


class _Annealer(Searcher):
    """Trial i belongs to chain i mod `chains`; all its randomness follows from the seed and i."""

    def __init__(self, options: Annealing, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.asked = self.told = 0
        self.at: dict[int, tuple[Mapping[str, str], float]] = {}
        self.first: list[float] = []

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next step of as many chains as there is room for; every chain has been told its last one."""
        count = min(most, self.options.chains - self.asked % self.options.chains)
        proposals = [Proposal(self._neighbour(self.asked + i)) for i in range(count)]
        self.asked += count
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take steps, or stay; a chain stays where it is for a trial that failed."""
        complete = [trial for trial in trials if trial.state == "complete"]
        values = iter(self.problem.values(complete))
        for trial in trials:
            number, self.told = self.told, self.told + 1
            if trial.state != "complete":
                continue
            value, chain = next(values), number % self.options.chains
            if chain not in self.at:
                self.first.append(value)
            if chain not in self.at or self._takes(value - self.at[chain][1], number):
                self.at[chain] = trial.recipe, value

    def temperature(self, number: int) -> float:
        """Return T for a trial, in units of the target."""
        through = min(1.0, number / max(1, self.problem.trials - 1))
        spread = float(np.std(self.first)) or abs(self.first[0]) or 1.0
        return float(spread * self.options.hot * (self.options.cold / self.options.hot) ** through)

    def _takes(self, gain: float, number: int) -> bool:
        """Say whether a step that changes the target by `gain` is taken."""
        draw = np.random.default_rng((self.problem.seed, number, 1)).random()
        return gain >= 0 or bool(draw < np.exp(gain / self.temperature(number)))

    def _neighbour(self, number: int) -> Mapping[str, str]:
        """Return a recipe near that of a trial's chain which satisfies the constraints, or a random one to start."""
        rng = np.random.default_rng((self.problem.seed, number, 0))
        space, here = self.problem.space, self.at.get(number % self.options.chains)
        for _ in range(ATTEMPTS):
            indices = space.random(rng) if here is None else space.encode(here[0]).copy()
            if here is not None:
                for place in rng.choice(len(space), size=min(self.options.flips, len(space)), replace=False):
                    indices[place] = rng.integers(len(space.choices[place].options))
            if all(bound.holds(self.problem.costs, indices) for bound in self.problem.constraints):
                return space.decode(indices)
        bounds = " and ".join(map(str, self.problem.constraints))
        raise ConfigError(f"search.constraints: none of {ATTEMPTS} recipes has {bounds}")
