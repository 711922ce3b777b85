"""Pareto fronts: the trials that no other beats in everything."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["hypervolume", "pareto_front"]


def pareto_front(costs: ArrayLike) -> NDArray[np.bool_]:
    """Return which of N points (N, K) are on the front, bool (N,); smaller is better in every column.

    A point is off the front if another is nowhere worse and somewhere better, or if it is NaN somewhere; equal points
    are on it together.

    >>> pareto_front([[1, 4], [2, 2], [3, 3], [4, 1]]).tolist()
    [True, True, False, True]
    """
    points = np.asarray(costs, np.float64)
    if points.ndim != 2:
        raise ValueError(f"expected points (N, K), found the shape {points.shape}")
    front: NDArray[np.bool_] = np.logical_not(np.isnan(points).any(axis=1))
    for index, point in enumerate(points):
        front[index] &= not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()
    return front


def hypervolume(costs: ArrayLike, reference: tuple[float, float]) -> float:
    """Return the area that points (N, 2) dominate, up to `reference`; smaller is better in both columns.

    Points beyond the reference add nothing (Zitzler & Thiele 1999).

    >>> hypervolume([[1, 2], [2, 1]], (3, 3))
    3.0
    """
    points = np.asarray(costs, np.float64).reshape(-1, 2)
    inside = points[(points < reference).all(axis=1)]
    ordered = inside[np.lexsort((inside[:, 1], inside[:, 0]))]
    lowest = np.minimum.accumulate(ordered[:, 1])
    right = np.append(ordered[1:, 0], reference[0])
    return float(((right - ordered[:, 0]) * (reference[1] - lowest)).sum())
