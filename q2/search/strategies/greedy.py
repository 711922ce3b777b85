"""Greedy search, today's practice: from the least error down, each time where a saved bit costs the least error.

The moves of a choice run along the lower convex hull of its options, so the path is that of the linear program
(Sinha & Zoltners, 1979), without its exact ends.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from q2.errors import ConfigError
from q2.search.building.feasible import admitted
from q2.search.space import Indices
from q2.search.strategies.base import Problem, Searcher, Strategy
from q2.search.strategies.listed import Listed, nearest_below

__all__ = ["Greedy"]


@dataclass(frozen=True)
class Greedy(Strategy):
    """Recipes along the greedy path of least `error` per saved unit of `metric`, loosest first.

    `error` is ``output_error`` or ``quantized_error``; empty, it is the first where the bank knows it.
    With constraints the first recipe is where the path comes to keep to them; N trials are N recipes, at evenly spaced
    budgets from there to the tightest.
    """

    name: ClassVar[str] = "greedy"
    metric: str = "avg_bits"
    """The sum over layers that is saved."""
    error: str = ""
    """The errors whose sum is minimized; empty: `output_error` where the bank knows it, else `quantized_error`."""

    def expressions(self) -> dict[str, str]:
        """Return what must be known of a recipe."""
        return {"error": self.error} if self.error else {}

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `ConfigError` where no recipe of the path keeps to the constraints."""
        error = self.error or problem.costs.error
        problem.costs.check([error, self.metric])
        path = _path(problem, self.metric, error)
        inside = path[admitted(problem.costs, problem.constraints, path)]
        if not len(inside):
            bounds = " and ".join(f"'{bound}'" for bound in problem.constraints)
            raise ConfigError(
                f"search.constraints: no recipe on the greedy path keeps to {bounds}; ilp-error finds some"
            )
        values = problem.costs.value(self.metric, inside)
        budgets = np.linspace(values[0], values[-1], problem.trials)
        return Listed(problem.space, [inside[i] for i in nearest_below(values, budgets)])


def _path(problem: Problem, metric: str, error_name: str) -> Indices:
    """Return the recipes (recipes, choices) from the least error to the least of `metric`, one move apart."""
    moves: list[tuple[float, int, int]] = []
    tables = problem.costs.finite().tables
    start = np.zeros(len(problem.space), np.intp)
    for choice, row in enumerate(problem.space.columns):
        error = tables[error_name][choice, row[row >= 0]]
        cost = tables[metric][choice, row[row >= 0]]
        at = int(np.lexsort((cost, error))[0])
        start[choice] = at
        while (cost < cost[at]).any():
            below = np.flatnonzero(cost < cost[at])
            slopes = (error[below] - error[at]) / (cost[at] - cost[below])
            best = int(np.lexsort((cost[below], slopes))[0])  # of equal slopes the longest move
            at = int(below[best])
            moves.append((float(slopes[best]), choice, at))
    path = [start]
    for _, choice, option in sorted(moves, key=lambda move: move[0]):
        path.append(path[-1].copy())
        path[-1][choice] = option
    return np.array(path)
