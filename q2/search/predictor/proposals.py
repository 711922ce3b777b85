"""What to try next: builds along a front of budgets, and near variants of the best, none of them tried before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from q2.search.constraints import Constraint
from q2.search.costs import Costs
from q2.search.parts import Parts
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.build import Bound, solve
from q2.search.predictor.dataset import Bools, Floats, Ints
from q2.search.predictor.scores import Part, groups_of

__all__ = ["Built", "Predict", "Proposer"]

_BUDGET = "avg_bits"
_MUTANTS = 2000
_CHANGES = 2.0

Predict = Callable[[Ints], Floats]
"""Predicts the unknown part of the target (recipes,) from options (recipes, choices)."""


@dataclass(frozen=True, eq=False)
class Built:
    """A recipe (choices,) of the predictor's options, how it came about, and what it is predicted to be worth."""

    chosen: Ints
    how: str
    worth: float


@dataclass(eq=False)
class Proposer:
    """Builds recipes within the search's constraints. `tried` (bytes of options) are never proposed again.

    Recipes are built from what options are predicted to add to the unknown part of the target (`Part`), while the
    known part (`Parts`) is weighed exactly.
    """

    bridge: Bridge
    costs: Costs
    parts: Parts
    constraints: Sequence[Constraint]
    tried: set[bytes] = field(default_factory=set)

    def front(self, parts: Sequence[Part], predict: Predict, count: int) -> list[Built]:
        """Return up to `count` builds on evenly spaced budgets of avg_bits, the smallest first.

        They go from the least that the constraints let to what the build without a budget takes: to the constraint, or
        to the most that the target has use for.
        """
        groups, bounds = groups_of(parts, self._known()), self._bounds()
        top = solve(groups, bounds)
        none = [Part(part.choices, part.variants, np.zeros_like(part.scores)) for part in parts]
        cheapest = solve(groups_of(none, -self._table(_BUDGET)), bounds)
        if top is None or cheapest is None or not count:
            return []
        found = []
        low, high = (float(self.cost(_BUDGET, chosen)) for chosen in (cheapest, top))
        for budget in np.linspace(high, low, count).tolist():
            chosen = solve(groups, [*bounds, self._bound(Constraint(_BUDGET, "<=", budget + 1e-9))])
            if chosen is not None and self._new(chosen):
                found.append((chosen, f"avg_bits <= {budget:.3f}"))
        return self._built(found[::-1], predict)

    def folds(self, parts: Sequence[Part], predict: Predict, count: int) -> list[Built]:
        """Return up to `count` builds from what single folds say: how else the best may look."""
        found: list[tuple[Ints, str]] = []
        for fold in range(parts[0].scores.shape[1]):
            chosen = solve(groups_of(parts, self._known(), fold), self._bounds()) if len(found) < count else None
            if chosen is not None and self._new(chosen):
                found.append((chosen, f"fold {fold}"))
        return self._built(found, predict)

    def near(self, parents: Sequence[Ints], predict: Predict, count: int, rng: np.random.Generator) -> list[Built]:
        """Return the up to `count` of 2000 mutants of `parents` that are predicted to be worth most.

        A mutant has another option, or the same, drawn for each choice with a probability such that it is two or so.
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
        best = made[np.argsort(-self.worth(made, predict), kind="stable")[:count]]
        return self._built([(chosen, "near") for chosen in best if self._new(chosen)], predict)

    def worth(self, chosen: Ints, predict: Predict) -> Floats:
        """Return the predicted worth (recipes,) of options (recipes, choices): the known part is exact."""
        return predict(chosen) + self.parts.exact({name: self.cost(name, chosen) for name in self.costs.tables})

    def cost(self, name: str, chosen: Ints) -> Floats:
        """Return a cost (...) of options (..., choices)."""
        table = self._table(name)
        return np.asarray(table[np.arange(len(table)), chosen].sum(-1) + self.costs.constants[name])

    def _built(self, found: Sequence[tuple[Ints, str]], predict: Predict) -> list[Built]:
        worth = self.worth(np.array([chosen for chosen, _ in found]), predict).tolist() if found else []
        return [Built(chosen, how, value) for (chosen, how), value in zip(found, worth, strict=True)]

    def _new(self, chosen: Ints) -> bool:
        key = chosen.tobytes()
        fresh = key not in self.tried
        self.tried.add(key)
        return fresh

    def _known(self) -> Floats:
        zero = np.zeros_like(self.bridge.space.bits)
        return np.asarray(sum((factor * self._table(name) for name, factor in self.parts.linear.items()), zero))

    def _table(self, name: str) -> Floats:
        return self.bridge.table(self.costs, name)

    def _bounds(self) -> list[Bound]:
        return [self._bound(constraint) for constraint in self.constraints]

    def _bound(self, constraint: Constraint) -> Bound:
        sign = 1 if constraint.sense == "<=" else -1
        most = constraint.bound - self.costs.constants[constraint.metric]
        return Bound(sign * self._table(constraint.metric), sign * most)

    def _within(self, chosen: Ints) -> Bools:
        held = [
            [bound.admits(value) for value in self.cost(bound.metric, chosen).tolist()] for bound in self.constraints
        ]
        return np.asarray(np.array(held, bool).reshape(len(held), len(chosen)).all(axis=0))
