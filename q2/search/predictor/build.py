"""Building: the recipe with the highest summed score within bounds, exactly, by a multiple-choice knapsack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from q2.search.predictor.dataset import Floats, Ints

__all__ = ["Bound", "Group", "solve"]

_SLACK = 1e-12


@dataclass(frozen=True, eq=False)
class Group:
    """One of these is chosen: options (variants, choices) of some `choices`, with their scores (variants,)."""

    choices: Ints
    variants: Ints
    scores: Floats


@dataclass(frozen=True, eq=False)
class Bound:
    """What the summed costs may be at most: `table` (choices, options)."""

    table: Floats
    most: float

    def holds(self, chosen: Ints) -> bool:
        """Say whether options (choices,) are within the bound, but for rounding."""
        total = float(self.table[np.arange(len(self.table)), chosen].sum())
        return total <= self.most + _SLACK * max(1.0, abs(self.most))


def solve(groups: Sequence[Group], bounds: Sequence[Bound], without: Sequence[Ints] = ()) -> Ints | None:
    """Return the options (choices,) with the highest summed score within all bounds; None where nothing is within.

    The groups share no choice and have them all. Recipes in `without` are not returned. Solved to optimality by
    `scipy.optimize.milp` (HiGHS), after leaving out variants that another of the group beats in score and costs.
    """
    if not without:
        groups = [_undominated(group, bounds) for group in groups]
    ruled_out = list(without)
    while (chosen := _solve(groups, bounds, ruled_out)) is not None:
        if all(bound.holds(chosen) for bound in bounds):
            return chosen
        ruled_out.append(chosen)  # within the solver's tolerance, but not within the bounds
    return None


def _solve(groups: Sequence[Group], bounds: Sequence[Bound], without: Sequence[Ints]) -> Ints | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    owner = np.repeat(np.arange(len(groups)), [len(group.scores) for group in groups])
    count = len(owner)
    one_each = csr_array((np.ones(count), (owner, np.arange(count))), shape=(len(groups), count))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for bound in bounds:
        costs = np.concatenate([_costs(group, bound) for group in groups])
        unit = float(np.abs(costs).max()) or 1.0
        constraints.append(LinearConstraint(costs[None] / unit, -np.inf, bound.most / unit))
    for other in without:
        same = np.concatenate([(group.variants == other[group.choices]).all(1) for group in groups])
        constraints.append(LinearConstraint(same[None].astype(np.float64), -np.inf, len(groups) - 1))
    scores = np.concatenate([group.scores for group in groups])
    found = milp(
        -scores, integrality=np.ones(count), bounds=Bounds(0, 1), constraints=constraints, options={"mip_rel_gap": 0}
    )
    if found.x is None:
        return None
    chosen = np.zeros(sum(len(group.choices) for group in groups), np.int64)
    for i, group in enumerate(groups):
        chosen[group.choices] = group.variants[int(found.x[owner == i].argmax())]
    return chosen


def _costs(group: Group, bound: Bound) -> Floats:
    return np.asarray(bound.table[group.choices, group.variants].sum(1))


def _undominated(group: Group, bounds: Sequence[Bound]) -> Group:
    """Leave out variants that cost no less than another and score no more; the first of equals stays."""
    costs = np.stack([_costs(group, bound) for bound in bounds], axis=1) if bounds else np.zeros((len(group.scores), 0))
    order = np.lexsort((*costs.T[::-1], -group.scores))  # by score, then by costs
    kept: list[int] = []
    least = np.zeros((0, costs.shape[1]))
    for i in order.tolist():
        if not len(least) or not (least <= costs[i]).all(1).any():
            kept.append(i)
            least = costs[kept]
    return Group(group.choices, group.variants[kept], group.scores[kept])
