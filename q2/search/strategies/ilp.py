"""Integer programming on the bank's errors: the least summed error for every budget, exactly (as in HAWQ-V3, ICML'21).

What a search is to be better than: it assumes that errors of layers add up and matter alike.
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
    """Recipes with the least `error` at evenly spaced budgets of `metric`, the loosest first.

    `error` is ``output_error`` or ``quantized_error``; empty, it is the first where the bank knows it.

    N trials are N budgets, from what the least error takes within the constraints down to the least of `metric`.
    """

    name: ClassVar[str] = "ilp-error"
    metric: str = "avg_bits"
    """The sum over layers that the budgets bound."""
    error: str = ""
    """The errors whose sum is minimized; empty: `output_error` where the bank knows it, else `quantized_error`."""

    def expressions(self) -> dict[str, str]:
        """Return what must be known of a recipe."""
        return {"error": self.error} if self.error else {}

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search: solve for all budgets. Raises `ConfigError` for constraints that no recipe keeps to."""
        error = self.error or problem.costs.error
        problem.costs.check([error, self.metric])
        return Listed(
            problem.space, least_errors(problem, problem.costs.finite().tables[error], self.metric, self.name)
        )


def least_errors(problem: Problem, errors: NDArray[np.float64], metric: str, name: str) -> Iterator[Indices]:
    """Yield the recipes with the least sum of `errors` (choices, options) at budgets of `metric`, the loosest first.

    There are as many budgets as the problem has trials; a recipe that is the best at several comes once. What is not
    finite in `errors` is not known: it counts as more than all others together. `name` is what progress is called.
    """
    good = np.isfinite(errors)
    known = np.where(good, errors, 1 + 2 * len(errors) * errors[good].max(initial=0))
    yielded = set[bytes]()
    for recipe in _solved(problem, known, metric, name):
        if recipe.tobytes() not in yielded:
            yielded.add(recipe.tobytes())
            yield recipe


def _solved(problem: Problem, errors: NDArray[np.float64], metric: str, name: str) -> Iterator[Indices]:
    """Yield the best recipe at every budget."""
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
