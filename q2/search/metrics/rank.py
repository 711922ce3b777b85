"""Rank correlation: whether two ways to measure order the same recipes alike."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from q2.search.metrics.intervals import Estimate

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


def spearman_estimate(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Return `spearman` with its interval for other pairs of the same kind.

    The jackknife's bias and variance of Fisher's z, with Student's t; the variance is at least that of normal pairs,
    (1 + ρ²/2) / (N - 3) (Bonett & Wright 2000), since few pairs in perfect order do not vary. All of [-1, 1] where one
    side less a pair is constant, or there are fewer than four pairs; all nan where one side is constant.
    """
    from scipy.special import stdtrit

    first, second = _checked(x, y)
    count, value = len(first), spearman(first, second)
    if np.isnan(value):
        return Estimate(value, np.nan, np.nan)
    without = _weighted(first, second, 1 - np.eye(count))
    if count < 4 or np.isnan(without).any():
        return Estimate(value, -1.0, 1.0)
    nearest = 1 - 6 / (count**3 - count)  # half a swap of neighbours from perfect order, whose z is infinite
    whole, parts = (np.arctanh(np.clip(found, -nearest, nearest)) for found in (value, without))
    variance = (count - 1) / count * ((parts - parts.mean()) ** 2).sum()
    variance = max(variance, (1 + value**2 / 2) / (count - 3))
    centre = whole + (count - 1) * (whole - parts.mean())
    half = stdtrit(count - 2, 0.975) * np.sqrt(variance)
    low, high = np.tanh(centre - half), np.tanh(centre + half)
    perfect = abs(value) > nearest
    return Estimate(
        value, -1.0 if perfect and value < 0 else min(low, value), 1.0 if perfect and value > 0 else max(high, value)
    )


def _weighted(x: Array, y: Array, counts: Array) -> Array:
    """Return the correlation of each sample (B,), given how often it holds each pair, `counts` (B, N)."""
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
