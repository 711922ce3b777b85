"""Which recipes satisfy the constraints, and repairing a recipe that does not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from q2.search.evaluation.costs import Costs
from q2.search.objective.constraints import Constraint
from q2.search.space import Indices

__all__ = ["admitted", "repaired"]


def admitted(costs: Costs, constraints: Sequence[Constraint], indices: Indices) -> NDArray[np.bool_]:
    """Return which recipes, vectors (..., choices) of option indices, satisfy all constraints: bool (...)."""
    inside = np.ones(np.asarray(indices).shape[:-1], bool)
    for bound in constraints:
        inside &= bound.admitted(costs.value(bound.metric, indices))
    return inside


def repaired(
    costs: Costs, constraints: Sequence[Constraint], indices: Indices, rng: np.random.Generator
) -> Indices | None:
    """Return `indices` (choices,) changed at random, choice by choice, until the constraints hold; None if that fails.

    Every change lowers the violation. A change that satisfies all constraints is preferred, so that few choices are
    changed. In a space with units, a change is another variant of a unit; the recipe must be in the space.
    """
    space, found = costs.space, np.array(indices, np.intp)
    items = space.items
    held = items.held(found)
    spans = [max(np.subtract(*costs.extent(bound.metric)[::-1]), 1e-30) for bound in constraints]
    for _ in range(10 * len(space)):
        over, moved = 0.0, np.zeros(len(items.owner))
        for bound, span in zip(constraints, spans, strict=True):
            value, added = costs.value(bound.metric, found), items.added(costs.tables[bound.metric])
            steps = added - added[held][items.owner]
            limit = bound.sign * bound.bound + bound.slack
            over += max(float(bound.sign * value) - limit, 0.0) / span
            moved += np.maximum(bound.sign * (value + steps) - limit, 0.0) / span
        if over == 0.0:
            return found
        better = np.flatnonzero(moved == 0.0)
        better = better if len(better) else np.flatnonzero(moved < over * (1 - 1e-9))
        if not len(better):
            return None
        item = int(better[rng.integers(len(better))])
        items.put(found, item)
        held[items.owner[item]] = item
    return None
