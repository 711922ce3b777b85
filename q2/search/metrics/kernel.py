"""Kernel distances between sets of features: KID (Bińkowski et al., ICLR'18), CMMD (Jayasumana et al., CVPR'24)."""

import numpy as np
from numpy.typing import NDArray

from q2.search.metrics.intervals import Estimate, Labels, distance_estimate

__all__ = ["cmmd", "cmmd_estimate", "kid", "kid_estimate"]

Array = NDArray[np.float64]
Features = NDArray[np.floating]
_SIGMA = 10.0
_SCALE = 1000.0


def kid(features: Features, reference: Features) -> float:
    """Return the unbiased squared MMD of features (N, D) and (M, D) with the kernel (x·y/D + 1)³.

    All pairs are used: it is what the usual average over random subsets estimates, without their noise. It can be
    negative. Raises `ValueError` for fewer than two samples.
    """
    return kid_estimate(features, reference).value


def kid_estimate(features: Features, reference: Features, labels: Labels | None = None) -> Estimate:
    """Return `kid` with its interval for other features of the same classes, `labels` (N,); the reference is fixed."""
    x, y = _checked(features, reference)
    within, across, there = (_polynomial(a, b) for a, b in ((x, x), (x, y), (y, y)))
    for kernel in (within, there):
        np.fill_diagonal(kernel, 0)
    return _estimate(within, across.mean(axis=1), there.sum() / (len(y) * (len(y) - 1)), len(x) - 1, labels)


def cmmd(features: Features, reference: Features) -> float:
    """Return 1000 times the squared MMD of CLIP embeddings (N, D) and (M, D) with a Gaussian kernel, σ = 10.

    Embeddings are brought to length 1, as the authors' are; like theirs it is the V-statistic, never negative.
    Raises `ValueError` for fewer than two samples.
    """
    return cmmd_estimate(features, reference).value


def cmmd_estimate(features: Features, reference: Features, labels: Labels | None = None) -> Estimate:
    """Return `cmmd` with its interval for other features of the same classes, `labels` (N,); the reference is fixed."""
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in _checked(features, reference))
    within, across, there = (_SCALE * _gaussian(a, b) for a, b in ((x, x), (x, y), (y, y)))
    return _estimate(within, across.mean(axis=1), there.mean(), len(x), labels).within(0, np.inf)


def _estimate(within: Array, across: Array, there: float, others: int, labels: Labels | None) -> Estimate:
    """Return the squared MMD from kernels (N, N) within the features, where each sample has that many `others`.

    `across` (N,) are the means of every sample's kernel with the reference, and `there` is the mean in the reference.
    """
    near = within.sum(axis=1) / others
    value = float(near.mean() + there - 2 * across.mean())
    return distance_estimate(value, 2 * (near - across), 2 * within, labels)


def _polynomial(x: Array, y: Array) -> Array:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def _gaussian(x: Array, y: Array) -> Array:
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    return np.asarray(np.exp(-squares / (2 * _SIGMA**2)))


def _checked(features: Features, reference: Features) -> tuple[Array, Array]:
    shapes = features.shape, reference.shape
    if features.ndim != 2 or reference.ndim != 2 or min(map(len, (features, reference))) < 2:
        raise ValueError(
            f"expected features (N, D) of two or more samples, found the shapes {shapes[0]} and {shapes[1]}"
        )
    return features.astype(np.float64), reference.astype(np.float64)
