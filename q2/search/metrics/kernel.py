"""Kernel distances between sets of features: KID (Bińkowski et al., ICLR'18), CMMD (Jayasumana et al., CVPR'24)."""

import numpy as np
from numpy.typing import NDArray

from q2.search.metrics.intervals import Estimate, centred, resample_counts

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
    return float(_kid_with(np.ones((1, len(features))), features, reference)[0])


def kid_estimate(features: Features, reference: Features, *, seed: int = 0, resamples: int = 1000) -> Estimate:
    """Return `kid` with its interval for other features of the same kind; the reference is held fixed."""
    replicates = _kid_with(resample_counts(len(features), resamples, seed), features, reference)
    return centred(kid(features, reference), replicates)


def cmmd(features: Features, reference: Features) -> float:
    """Return 1000 times the squared MMD of CLIP embeddings (N, D) and (M, D) with a Gaussian kernel, σ = 10.

    Embeddings are brought to length 1, as the authors' are; like theirs it is the V-statistic, never negative.
    Raises `ValueError` for fewer than two samples.
    """
    return float(_cmmd_with(np.ones((1, len(features))), features, reference)[0])


def cmmd_estimate(features: Features, reference: Features, *, seed: int = 0, resamples: int = 1000) -> Estimate:
    """Return `cmmd` with its interval for other features of the same kind; the reference is held fixed."""
    replicates = _cmmd_with(resample_counts(len(features), resamples, seed), features, reference)
    return centred(cmmd(features, reference), replicates)


def _kid_with(counts: Array, features: Features, reference: Features) -> Array:
    """Return KID of resamples given by their `counts` (B, N): pairs of one sample with itself are left out."""
    x, y = _checked(features, reference)
    within, across, there = (_polynomial(a, b) for a, b in ((x, x), (x, y), (y, y)))
    for kernel in (within, there):
        np.fill_diagonal(kernel, 0)
    pairs = counts.sum(axis=1) ** 2 - (counts**2).sum(axis=1)
    ours = ((counts @ within) * counts).sum(axis=1) / pairs
    both = counts @ across.mean(axis=1) / counts.sum(axis=1)
    theirs: float = there.sum() / (len(y) * (len(y) - 1))
    return np.asarray(ours + theirs - 2 * both)


def _cmmd_with(counts: Array, features: Features, reference: Features) -> Array:
    """Return CMMD of resamples given by their `counts` (B, N)."""
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in _checked(features, reference))
    shares = counts / counts.sum(axis=1, keepdims=True)
    ours = ((shares @ _gaussian(x, x)) * shares).sum(axis=1)
    both = shares @ _gaussian(x, y).mean(axis=1)
    return np.asarray(_SCALE * (ours + _gaussian(y, y).mean() - 2 * both))


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
