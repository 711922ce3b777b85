"""Random recipes (Qua²SeDiMo, AAAI'25): each draws its share of the narrower width, then an option for every choice."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from q2.errors import ConfigError
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.trials.trial import Trial

__all__ = ["Random"]

_ATTEMPTS = 10_000


@dataclass(frozen=True)
class Random(Strategy):
    """Random recipes: p ~ U(`low`, `high`), then each choice takes the narrower width with probability p.

    Recipe i depends only on the seed and i. Recipes that violate a constraint are drawn again.
    """

    name: ClassVar[str] = "random"
    keeps_units: ClassVar[bool] = True
    low: float = 0.0
    """Smallest share of layers with the narrower width."""
    high: float = 1.0
    """Largest share of layers with the narrower width."""

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher."""
        return _Random(self, problem)


class _Random(Searcher):
    def __init__(self, options: Random, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.drawn = 0

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return `most` recipes; no recipe depends on a trial."""
        return [self._next() for _ in range(most)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing: no recipe depends on a trial."""

    def _next(self) -> Proposal:
        space, costs = self.problem.space, self.problem.costs
        for _ in range(_ATTEMPTS):
            recipe = space.draw(self.problem.seed, self.drawn, self.options.low, self.options.high)
            self.drawn += 1
            if all(bound.holds(costs, space.encode(recipe)) for bound in self.problem.constraints):
                return Proposal(recipe)
        bounds = " and ".join(map(str, self.problem.constraints))
        raise ConfigError(f"search.constraints: none of {_ATTEMPTS} random recipes satisfies {bounds}")
