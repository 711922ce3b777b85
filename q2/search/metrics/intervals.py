"""Confidence intervals: how much a metric would move with the noise of another evaluation seed.

An evaluation fixes the class or prompt of every image, and draws the noise. So what varies from seed to seed is what
varies between images of one class; the `labels` (N,) of samples say which are of one class. Samples without labels are
all of one kind. Intervals are at 95 % and without random numbers of their own.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Estimate",
    "Influences",
    "Labels",
    "accuracy",
    "distance_estimate",
    "mean_estimate",
    "paired_estimate",
    "share_estimate",
]

Array = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
_LEVEL = 0.95
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Influences:
    """What each sample of a set adds to a statistic of the whole set; see `distance_estimate`."""

    of: Array
    pairs: Array


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its confidence interval, and of a distance what the interval was worked out from."""

    value: float
    low: float
    high: float
    influences: Influences | None = field(default=None, compare=False, repr=False)

    def within(self, low: float, high: float) -> "Estimate":
        """Return the estimate with bounds that are not beyond what the metric can be.

        >>> Estimate(0.9, 0.7, 1.1).within(0, 1)
        Estimate(value=0.9, low=0.7, high=1)
        """
        bounds = min(max(self.low, low), self.value), max(min(self.high, high), self.value)
        return Estimate(self.value, *bounds, self.influences)


def mean_estimate(values: ArrayLike, labels: Labels | None = None) -> Estimate:
    """Return the mean of per-sample values (N,) with Student's t interval, of the variance within classes.

    One value says nothing of the spread: its bounds are infinite. Raises `ValueError` for none.

    >>> found = mean_estimate([1.0, 2.0, 3.0])
    >>> found.value, round(found.high, 3)
    (2.0, 4.484)
    """
    plain = np.asarray(values, np.float64)
    if plain.ndim != 1 or not len(plain):
        raise ValueError(f"expected one or more values, found the shape {plain.shape}")
    if len(plain) == 1:
        return Estimate(float(plain[0]), -np.inf, np.inf)
    return _around(float(plain.mean()), *_variance(plain, _groups(len(plain), labels)))


def share_estimate(right: ArrayLike) -> Estimate:
    """Return the share of true values (N,) with the interval of Wilson (1927).

    It never leaves [0, 1] and knows small samples; classes of unlike shares make it wider than it need be. Raises
    `ValueError` for no values.

    >>> found = share_estimate([True] * 20)
    >>> found.value, round(found.low, 3), found.high
    (1.0, 0.839, 1.0)
    """
    plain = np.asarray(right, bool)
    if plain.ndim != 1 or not len(plain):
        raise ValueError(f"expected one or more values, found the shape {plain.shape}")
    count, held = len(plain), int(plain.sum())
    share, square = held / count, _Z95**2
    centre = (share + square / (2 * count)) / (1 + square / count)
    half = _Z95 / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    low = centre - half if held else 0.0  # without the last digit's error
    high = centre + half if held < count else 1.0
    return Estimate(held / count, low, high)


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> Estimate:
    """Return the share of predictions (N,) that equal their labels (N,), with its interval; NaN where one is NaN.

    >>> accuracy([3, 1, 4, 1], [3, 1, 4, 2]).value
    0.75
    """
    if not np.isfinite(predicted).all():
        return Estimate(np.nan, np.nan, np.nan)
    return share_estimate(np.equal(predicted, labels))


def distance_estimate(value: float, influences: Array, pairs: Array, labels: Labels | None = None) -> Estimate:
    """Return the interval of a statistic of a whole set: a distance to another set.

    `influences` (N,) is what each sample adds to it, N times its derivative by the sample's share of the set; their
    variance is the delta method's (the infinitesimal jackknife: Efron & Stein 1981). `pairs` (M, M) are the second
    derivatives by the shares of two samples, for the first M samples. Influences estimated from the same samples count
    this part of the variance twice, most where the two sets are alike, so one of the two is taken off.
    """
    groups = _groups(len(influences), labels)
    first, freedom = _variance(influences, groups)
    few = groups[: len(pairs)]
    centred = _centred(_centred(pairs, few).T, few)
    squares = float((centred**2).sum() - (np.diag(centred) ** 2).sum()) / (len(few) * (len(few) - 1))
    second = squares / (2 * len(influences) ** 2)
    return replace(_around(value, max(first - second, second), freedom), influences=Influences(influences, pairs))


def paired_estimate(one: Estimate, other: Estimate, labels: Labels | None = None) -> Estimate | None:
    """Return the difference of two results of `distance_estimate` for paired samples with `labels` (N,).

    The influence of a pair on the difference is the difference of its influences. None if an estimate has none.
    """
    if one.influences is None or other.influences is None:
        return None
    apart = one.influences.of - other.influences.of, one.influences.pairs - other.influences.pairs
    return distance_estimate(one.value - other.value, *apart, labels)


def _around(value: float, variance: float, freedom: float) -> Estimate:
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, (1 + _LEVEL) / 2)) * float(np.sqrt(variance))
    return Estimate(value, value - half, value + half)


def _groups(count: int, labels: Labels | None) -> Labels:
    """Return numbers from 0 on of samples' classes; classes of one sample say nothing of the spread, and are pooled."""
    if labels is None:
        return np.zeros(count, np.intp)
    if len(labels) != count:
        raise ValueError(f"expected a label for each of {count} samples, found {len(labels)}")
    _, group, counts = np.unique(labels, return_inverse=True, return_counts=True)
    alone = counts[group] == 1
    group[alone] = counts.argmax() if alone.sum() == 1 else len(counts)
    return np.asarray(np.unique(group, return_inverse=True)[1])


def _centred(values: Array, groups: Labels) -> Array:
    """Return the values (N, ...) without their groups' means."""
    counts = np.bincount(groups)
    sums = (groups == np.arange(len(counts))[:, None]).astype(np.float64) @ values
    return np.asarray(values - (sums.T / counts).T[groups])


def _variance(values: Array, groups: Labels) -> tuple[float, float]:
    """Return the variance of the mean of values (N,) drawn group by group, and its degrees of freedom (Welch 1947)."""
    counts = np.bincount(groups)
    squares = np.bincount(groups, _centred(values, groups) ** 2)
    parts = squares * counts / (counts - 1) / len(values) ** 2
    total, most = float(parts.sum()), len(values) - len(counts)
    weights = float((parts**2 / (counts + 1)).sum())
    freedom = total**2 / weights - 2 if weights else most
    return total, float(np.clip(freedom, (counts - 1).min(), most))
