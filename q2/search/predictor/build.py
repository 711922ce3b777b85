"""Recipes from labels: the best variant of every unit, or option of every layer, within exact constraints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from q2.search.building.knapsack import Built, Knapsack
from q2.search.objective.constraints import Constraint
from q2.search.predictor.combined import NamedPart
from q2.search.predictor.dataset import Ints
from q2.search.predictor.scores import chosen_of, groups_of
from q2.search.predictor.space import NodeSpace

__all__ = ["Builder", "LabelledRecipe"]


@dataclass(frozen=True, eq=False)
class LabelledRecipe:
    """Options (choices,) with their summed `score`, their sums over layers, and what they are built for."""

    chosen: Ints
    score: float
    costs: Mapping[str, float]
    within: str = ""


class Builder:
    """Builds recipes of a space from scored parts (`combined`), each exactly: a multiple-choice knapsack.

    Without constraints it is every part's best variant, as Qua²SeDiMo (AAAI'25) builds them. Of equal scores the first
    variant counts.
    """

    def __init__(self, space: NodeSpace, parts: Sequence[NamedPart]) -> None:
        self.space, self.parts = space, parts
        summed = [NamedPart(p.choices, p.variants, p.total[:, None], p.name, p.kind) for p in parts]
        self.knapsack = Knapsack(groups_of(summed, np.zeros_like(space.bits), space.tables), space.constants)

    def recipe(self, constraints: Sequence[Constraint] = ()) -> LabelledRecipe:
        """Return the recipe of the highest summed score within the constraints. Raises as `Knapsack.solve`."""
        return self._recipe(self.knapsack.solve(constraints), " and ".join(map(str, constraints)))

    def front(
        self, metric: str, budgets: Sequence[float], constraints: Sequence[Constraint] = ()
    ) -> list[LabelledRecipe]:
        """Return the best recipe with at most every budget of a metric, the smallest first; equal ones once.

        Raises the errors of `Knapsack.solve`, for a budget that no recipe satisfies.
        """
        found: dict[bytes, LabelledRecipe] = {}
        for budget in sorted(budgets):
            bound = Constraint(metric, "<=", budget)
            recipe = self._recipe(self.knapsack.solve([*constraints, bound]), str(bound))
            found.setdefault(recipe.chosen.tobytes(), recipe)
        return list(found.values())

    def budgets(self, metric: str, count: int, constraints: Sequence[Constraint] = ()) -> list[float]:
        """Return evenly spaced budgets from the least of a metric to what the best recipe takes of it."""
        least = self.knapsack.least(metric, constraints).costs[metric]
        most = self.knapsack.solve(constraints).costs[metric]
        return [float(budget) for budget in np.linspace(least, most, count)]

    def _recipe(self, built: Built, within: str) -> LabelledRecipe:
        return LabelledRecipe(chosen_of(self.parts, built), built.score, built.costs, within)
