"""A searcher for strategies that know all their recipes in advance."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from q2.search.space import Indices, Space
from q2.search.strategies.base import Proposal, Searcher
from q2.search.trials.trial import Trial

__all__ = ["Listed", "nearest_below"]


class Listed(Searcher):
    """Proposes given recipes, vectors (choices,) of option indices, in their order and each once."""

    def __init__(self, space: Space, recipes: Iterable[Indices]) -> None:
        distinct = dict.fromkeys(tuple(int(index) for index in recipe) for recipe in recipes)
        self.left = [space.decode(recipe) for recipe in distinct]

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes."""
        asked, self.left = self.left[:most], self.left[most:]
        return [Proposal(recipe) for recipe in asked]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing: no recipe depends on a trial."""


def nearest_below(values: NDArray[np.float64], budgets: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return, for each of `budgets` (B,), the index of the first of falling `values` (V,) that is within it: (B,).

    A budget below all values gets the last index.

    >>> nearest_below(np.array([4.0, 3.5, 3.1, 3.0]), np.array([4.0, 3.4, 3.0])).tolist()
    [0, 2, 3]
    """
    slack = 1e-9 * np.maximum(np.abs(budgets), 1.0)
    return np.minimum(np.searchsorted(-values, -(budgets + slack)), len(values) - 1)
