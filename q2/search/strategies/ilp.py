"""Integer programming on the bank's errors: the least summed error for every budget, exactly (as in HAWQ-V3, ICML'21).

This is the baseline for other strategies: it assumes that errors of layers add up and matter equally.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from q2.search.building.variants import knapsack_of, put_together, single_choices
from q2.search.space import Indices
from q2.search.strategies.base import Problem, Searcher, Strategy
from q2.search.strategies.listed import Listed

__all__ = ["IlpError", "least_errors"]


@dataclass(frozen=True)
class IlpError(Strategy):
    """Recipes with the least summed `error` at evenly spaced budgets of `metric`, largest budget first.

    `error` is ``output_error`` or ``quantized_error``; if empty, the first of these that the bank has.

    N trials are N budgets, from the cost of the least-error recipe that satisfies the constraints down to the lowest.
    """

    name: ClassVar[str] = "ilp-error"
    metric: str = "avg_bits"
    """Cost that the budgets limit, a sum over layers."""
    error: str = ""
    """Error whose sum is minimized; empty: `output_error` if the bank has it, else `quantized_error`."""

    def expressions(self) -> dict[str, str]:
        """Return `error`, if set: it must be known for every recipe."""
        return {"error": self.error} if self.error else {}

    def searcher(self, problem: Problem) -> Searcher:
        """Return a searcher, which solves for every budget. Raises `ConfigError` for constraints without a solution."""
        error = self.error or problem.costs.error
        problem.costs.check([error, self.metric])
        return Listed(
            problem.space, least_errors(problem, problem.costs.finite().tables[error], self.metric, self.name)
        )


def least_errors(problem: Problem, errors: NDArray[np.float64], metric: str, name: str) -> Iterator[Indices]:
    """Yield the recipes with the least sum of `errors` (choices, options) at budgets of `metric`, largest budget first.

    A recipe is a vector (choices,) of option indices. There are as many budgets as the problem has trials; a recipe
    that is the best at several budgets is yielded once. An error that is not finite is unknown and counts as more than
    all known errors together. `name` is the title of the progress bar.
    """
    good = np.isfinite(errors)
    known = np.where(good, errors, 1 + 2 * len(errors) * errors[good].max(initial=0))
    yielded = set[bytes]()
    for recipe in _solved(problem, known, metric, name):
        if recipe.tobytes() not in yielded:
            yielded.add(recipe.tobytes())
            yield recipe


def _solved(problem: Problem, errors: NDArray[np.float64], metric: str, name: str) -> Iterator[Indices]:
    """Yield the best recipe of every budget."""
    space, bounds, costs = problem.space, problem.constraints, problem.costs.finite()
    variants = single_choices(space, -errors)
    knapsack = knapsack_of(costs, variants)
    loosest = knapsack.solve(bounds)
    yield put_together(space, variants, loosest)
    if problem.trials == 1:
        return
    least = knapsack.least(metric, bounds).costs[metric]
    budgets: Sequence[float] = np.linspace(loosest.costs[metric], least, problem.trials)[1:].tolist()
    for budget in problem.progress(budgets, name, len(budgets)):
        yield put_together(space, variants, knapsack.front(metric, [budget], bounds)[0])
