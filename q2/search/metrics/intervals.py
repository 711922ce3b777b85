"""Bootstrap intervals (Efron & Tibshirani 1993): how much a metric would move with other samples of the same kind."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Estimate", "accuracy", "centred", "mean_estimate", "percentile", "resample_counts"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def resample_counts(size: int, resamples: int, seed: int) -> Array:
    """Return how often each of `size` samples is in each bootstrap resample, float64 (resamples, size).

    >>> resample_counts(5, 3, seed=0).sum(axis=1).tolist()
    [5.0, 5.0, 5.0]
    """
    drawn = np.random.default_rng(seed).integers(size, size=(resamples, size))
    cells = (drawn + size * np.arange(resamples)[:, None]).ravel()
    return np.bincount(cells, minlength=resamples * size).reshape(resamples, size).astype(np.float64)


def percentile(value: float, replicates: Array, level: float = 0.95) -> Estimate:
    """Return the interval between the quantiles of the replicates (resamples,); for means and correlations."""
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def centred(value: float, replicates: Array, level: float = 0.95) -> Estimate:
    """Return the normal interval around the value, as wide as the replicates (resamples,) spread.

    For distances between distributions: a resample has fewer different samples, so its distance is too large, and
    quantiles would lie beside the value.
    """
    half = NormalDist().inv_cdf((1 + level) / 2) * float(replicates.std(ddof=1))
    return Estimate(value, value - half, value + half)


def mean_estimate(values: ArrayLike, *, seed: int = 0, resamples: int = 1000, level: float = 0.95) -> Estimate:
    """Return the mean of per-sample values (N,) with its percentile interval. Raises `ValueError` for none.

    >>> mean_estimate([0.0, 1.0, 1.0, 1.0]).value
    0.75
    """
    plain = np.asarray(values, np.float64)
    if plain.ndim != 1 or not len(plain):
        raise ValueError(f"expected one or more values, found the shape {plain.shape}")
    return percentile(float(plain.mean()), resample_counts(len(plain), resamples, seed) @ plain / len(plain), level)


def accuracy(predicted: ArrayLike, labels: ArrayLike, *, seed: int = 0) -> Estimate:
    """Return the share of predictions (N,) that equal their labels (N,), with its interval; NaN where one is NaN.

    >>> accuracy([3, 1, 4, 1], [3, 1, 4, 2]).value
    0.75
    """
    right = np.where(np.isfinite(predicted), np.equal(predicted, labels), np.nan)
    return mean_estimate(right, seed=seed)
