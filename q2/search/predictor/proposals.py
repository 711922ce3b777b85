"""What to try next: builds along a front of budgets, and near variants of the best, none of them tried before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from q2.search.building.knapsack import Knapsack
from q2.search.evaluation.costs import Costs
from q2.search.objective.constraints import Constraint
from q2.search.objective.split import Parts
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.dataset import Bools, Floats, Ints
from q2.search.predictor.scores import ScoredPart, chosen_of, groups_of

__all__ = ["BuiltRecipe", "Predict", "Proposer"]

_BUDGET = "avg_bits"
_MUTANTS = 2000
_CHANGES = 2.0

Predict = Callable[[Ints], Floats]
"""Predicts the unknown part of the target (recipes,) from options (recipes, choices)."""


@dataclass(frozen=True, eq=False)
class BuiltRecipe:
    """A recipe (choices,) of the predictor's options, how it came about, and its predicted value of the target."""

    chosen: Ints
    how: str
    value: float


@dataclass(eq=False)
class Proposer:
    """Builds recipes within the search's constraints. `tried` (bytes of options) are never proposed again.

    Recipes are built from what options are predicted to add to the unknown part of the target (`ScoredPart`), while the
    known part (`Parts`) is weighed exactly.
    """

    bridge: Bridge
    costs: Costs
    parts: Parts
    constraints: Sequence[Constraint]
    tried: set[bytes] = field(default_factory=set)

    def front(self, parts: Sequence[ScoredPart], predict: Predict, count: int) -> list[BuiltRecipe]:
        """Return up to `count` builds on evenly spaced budgets of avg_bits, the smallest first.

        They go from the least that the constraints let to what the build without a budget takes: to the constraint, or
        to the most that the target has use for.
        """
        knapsack = self._knapsack(parts)
        top, cheapest = knapsack.optimum(self.constraints), knapsack.optimum(self.constraints, _BUDGET)
        if top is None or cheapest is None or not count:
            return []
        found = []
        for budget in np.linspace(top.costs[_BUDGET], cheapest.costs[_BUDGET], count).tolist():
            built = knapsack.optimum([*self.constraints, Constraint(_BUDGET, "<=", budget)])
            if built is not None and self._new(chosen := chosen_of(parts, built)):
                found.append((chosen, f"avg_bits <= {budget:.3f}"))
        return self._proposed(found[::-1], predict)

    def folds(self, parts: Sequence[ScoredPart], predict: Predict, count: int) -> list[BuiltRecipe]:
        """Return up to `count` builds from what single folds say: how else the best may look."""
        found: list[tuple[Ints, str]] = []
        for fold in range(parts[0].scores.shape[1]):
            built = self._knapsack(parts, fold).optimum(self.constraints) if len(found) < count else None
            if built is not None and self._new(chosen := chosen_of(parts, built)):
                found.append((chosen, f"fold {fold}"))
        return self._proposed(found, predict)

    def near(
        self, parents: Sequence[Ints], predict: Predict, count: int, rng: np.random.Generator
    ) -> list[BuiltRecipe]:
        """Return up to `count` of 2000 mutants of `parents`, recipes (choices,), with the highest predicted values.

        In a mutant, about two choices on average get a random option, which may be the same as before.
        """
        allowed = self.bridge.space.allowed
        counts, order = allowed.sum(1), np.argsort(~allowed, axis=1, kind="stable")  # a choice's allowed options first
        made = np.array([parents[i % len(parents)] for i in range(_MUTANTS if parents else 0)], np.int64)
        if not len(made) or not count or counts.max() < 2:
            return []
        changed = rng.random(made.shape) < _CHANGES / (counts > 1).sum()
        drawn = order[np.arange(len(counts)), (rng.random(made.shape) * counts).astype(np.int64)]
        made = np.where(changed & (counts > 1), drawn, made)
        made = np.unique(made[self._within(made)], axis=0)
        fresh = np.array([row.tobytes() not in self.tried for row in made], bool)
        made = made[fresh]
        if not len(made):
            return []
        best = made[np.argsort(-self.values(made, predict), kind="stable")[:count]]
        return self._proposed([(chosen, "near") for chosen in best if self._new(chosen)], predict)

    def values(self, chosen: Ints, predict: Predict) -> Floats:
        """Return the predicted values (recipes,) of options (recipes, choices): the known part is exact."""
        return predict(chosen) + self.parts.exact({name: self.cost(name, chosen) for name in self.costs.tables})

    def cost(self, name: str, chosen: Ints) -> Floats:
        """Return a cost (...) of options (..., choices)."""
        table = self._table(name)
        return np.asarray(table[np.arange(len(table)), chosen].sum(-1) + self.costs.constants[name])

    def _proposed(self, found: Sequence[tuple[Ints, str]], predict: Predict) -> list[BuiltRecipe]:
        values = self.values(np.array([chosen for chosen, _ in found]), predict).tolist() if found else []
        return [BuiltRecipe(chosen, how, value) for (chosen, how), value in zip(found, values, strict=True)]

    def _new(self, chosen: Ints) -> bool:
        key = chosen.tobytes()
        fresh = key not in self.tried
        self.tried.add(key)
        return fresh

    def _knapsack(self, parts: Sequence[ScoredPart], fold: int | None = None) -> Knapsack:
        tables = {name: self._table(name) for name in (_BUDGET, *(bound.metric for bound in self.constraints))}
        known = np.zeros_like(self.bridge.space.bits)
        for name, factor in self.parts.linear.items():
            known = known + factor * self._table(name)
        return Knapsack(groups_of(parts, known, tables, fold), self.costs.constants)

    def _table(self, name: str) -> Floats:
        return self.bridge.table(self.costs, name)

    def _within(self, chosen: Ints) -> Bools:
        inside = np.ones(len(chosen), bool)
        for bound in self.constraints:
            inside &= bound.admitted(self.cost(bound.metric, chosen))
        return inside
