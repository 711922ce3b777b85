"""Dominated items: another item is at least as good in every respect, so that an optimum does not need them."""

import numpy as np
from numpy.typing import NDArray

from q2.search.space import Indices

__all__ = ["undominated"]


def undominated(points: NDArray[np.float64]) -> Indices:
    """Return, sorted, which of N points (N, K) to keep; smaller is better in every column.

    Of equal points the first is kept, unlike in `pareto_front`. Two columns take N log N.

    >>> undominated(np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0], [2.0, 2.0], [4.0, 1.0]])).tolist()
    [0, 1, 4]
    """
    order = np.lexsort((np.arange(len(points)), *points.T[::-1]))
    ordered = points[order]
    if points.shape[1] == 1:
        return np.asarray(order[:1])
    if points.shape[1] == 2:
        lowest = np.minimum.accumulate(ordered[:, 1])
        first = np.append(True, lowest[1:] < lowest[:-1])
        return np.sort(order[first[: len(order)]])
    place = 0
    while place < len(ordered):  # in this order no point dominates one before it, but for equal ones, which go
        stays = (ordered < ordered[place]).any(axis=1)
        stays[: place + 1] = True
        ordered, order = ordered[stays], order[stays]
        place += 1
    return np.sort(order)
