"""Greedy search, the common practice: start at the least error, then always save the bits that cost the least error.

Each choice moves along the lower convex hull of its options, so the path is that of the linear relaxation (Sinha &
Zoltners, 1979), without the fractional last move that meets a budget exactly.
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
    """Recipes along the greedy path of least `error` per saved unit of `metric`, largest budget first.

    `error` is ``output_error`` or ``quantized_error``; if empty, the first of these that the bank has. With
    constraints, the first recipe is the first on the path that satisfies them. N trials are N recipes, at evenly spaced
    budgets from there to the smallest.
    """

    name: ClassVar[str] = "greedy"
    metric: str = "avg_bits"
    """Cost that is reduced, a sum over layers."""
    error: str = ""
    """Error whose sum is minimized; empty: `output_error` if the bank has it, else `quantized_error`."""

    def expressions(self) -> dict[str, str]:
        """Return `error`, if set: it must be known for every recipe."""
        return {"error": self.error} if self.error else {}

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher. Raises `ConfigError` if no recipe on the path satisfies the constraints."""
        error = self.error or problem.costs.error
        problem.costs.check([error, self.metric])
        path = _path(problem, self.metric, error)
        inside = path[admitted(problem.costs, problem.constraints, path)]
        if not len(inside):
            bounds = " and ".join(f"'{bound}'" for bound in problem.constraints)
            raise ConfigError(f"search.constraints: no recipe on the greedy path satisfies {bounds}; try ilp-error")
        values = problem.costs.value(self.metric, inside)
        budgets = np.linspace(values[0], values[-1], problem.trials)
        return Listed(problem.space, [inside[i] for i in nearest_below(values, budgets)])


def _path(problem: Problem, metric: str, error_name: str) -> Indices:
    """Return the recipes (recipes, choices) from the least error to the lowest `metric`, one move apart."""
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
            best = int(np.lexsort((cost[below], slopes))[0])  # the longest move among equal slopes
            at = int(below[best])
            moves.append((float(slopes[best]), choice, at))
    path = [start]
    for _, choice, option in sorted(moves, key=lambda move: move[0]):
        path.append(path[-1].copy())
        path[-1][choice] = option
    return np.array(path)
