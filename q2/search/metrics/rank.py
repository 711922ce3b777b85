"""Rank correlation: whether two ways to measure order the same recipes alike."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from q2.search.metrics.intervals import Estimate, percentile, resample_counts

__all__ = ["spearman", "spearman_estimate"]

Array = NDArray[np.float64]


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rank correlation of values (N,) and (N,), ties at their mean rank; nan where one is constant.

    Raises `ValueError` for different lengths, fewer than two values, and values that are not finite.

    >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
    0.8
    """
    first, second = _checked(x, y)
    return float(_weighted(first, second, np.ones((1, len(first))))[0])


def spearman_estimate(x: ArrayLike, y: ArrayLike, *, seed: int = 0, resamples: int = 1000) -> Estimate:
    """Return `spearman` with the percentile interval for other pairs of the same kind.

    Resamples in which one side is constant have no correlation and are left out; all nan where there are no others.
    """
    first, second = _checked(x, y)
    replicates = _weighted(first, second, resample_counts(len(first), resamples, seed))
    kept = replicates[np.isfinite(replicates)]
    value = spearman(first, second)
    return percentile(value, kept) if len(kept) else Estimate(value, np.nan, np.nan)


def _weighted(x: Array, y: Array, counts: Array) -> Array:
    """Return the correlation of each resample (B,), given how often it holds each pair, `counts` (B, N)."""
    total = counts.sum(axis=1, keepdims=True)
    ranks = []
    for values in (x, y):
        _, first, group = np.unique(np.sort(values), return_index=True, return_inverse=True)
        order = np.argsort(values, kind="stable")
        held = np.add.reduceat(counts[:, order], first, axis=1)
        rank = np.empty_like(counts)
        rank[:, order] = (np.cumsum(held, axis=1) - (held - 1) / 2)[:, group]
        ranks.append(rank - (counts * rank).sum(axis=1, keepdims=True) / total)
    a, b = ranks
    spread = (counts * a * a).sum(axis=1) * (counts * b * b).sum(axis=1)
    together = (counts * a * b).sum(axis=1)
    return np.asarray(np.divide(together, np.sqrt(spread), out=np.full(len(counts), np.nan), where=spread > 0))


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(f"expected two or more pairs, found the shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("expected finite values")
    return first, second
