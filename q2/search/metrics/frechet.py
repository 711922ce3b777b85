"""The Fréchet distance between two sets of features, as Gaussians (FID: Heusel et al., NeurIPS'17)."""

import numpy as np
from numpy.typing import NDArray

from q2.search.metrics.intervals import Estimate, centred, resample_counts

__all__ = ["frechet_distance", "frechet_estimate", "frechet_spread", "moments"]

Array = NDArray[np.float64]


def moments(features: NDArray[np.floating]) -> tuple[Array, Array]:
    """Return mean (D,) and covariance (D, D) of features (N, D). Raises `ValueError` for fewer than two samples."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"expected features (N, D) of two or more samples, found the shape {features.shape}")
    plain = features.astype(np.float64)
    return plain.mean(axis=0), np.cov(plain, rowvar=False).reshape(plain.shape[1], plain.shape[1])


def frechet_distance(mean: Array, covariance: Array, other_mean: Array, other_covariance: Array) -> float:
    """Return |m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½), of means (D,) and covariances (D, D).

    The trace of the root is a sum over the eigenvalues of C₁^½ C₂ C₁^½, which is symmetric: exact for singular
    covariances too, where a general matrix root (clean-fid's) is off in the third digit or fails.

    >>> frechet_distance(np.zeros(2), np.eye(2), np.ones(2), 4 * np.eye(2))
    4.0
    """
    return _distance(mean, covariance, _root(covariance), other_mean, other_covariance)


def frechet_estimate(
    features: NDArray[np.floating], mean: Array, covariance: Array, *, seed: int = 0, resamples: int = 200
) -> Estimate:
    """Return the distance of features (N, D) to a reference's `mean` (D,) and `covariance` (D, D), with its interval.

    The interval is for other features of the same kind; the reference is held fixed, as all trials share it. Each
    resample takes O(N D² + D³): fine for a judge's 64 features, minutes for Inception's 2048.
    """
    value = frechet_distance(mean, covariance, *moments(features))
    root = _root(covariance)
    centre = features.mean(axis=0, dtype=np.float64)
    offsets = features - centre
    replicates = []
    for counts in resample_counts(len(features), resamples, seed):
        shift = counts @ offsets / len(features)
        spread = (offsets.T * counts) @ offsets - len(features) * np.outer(shift, shift)
        replicates.append(_distance(mean, covariance, root, centre + shift, spread / (len(features) - 1)))
    return centred(value, np.array(replicates))


def frechet_spread(
    features: NDArray[np.floating], mean: Array, covariance: Array, *, seed: int = 0, resamples: int = 50
) -> float:
    """Return half the interval of `frechet_estimate` where there are fewer samples than features.

    The nonzero eigenvalues of C₁ C₂ are those of an (N, N) matrix of products between the samples, of which a resample
    takes rows and columns: O(N³) instead of O(D³) each.
    """
    count = len(features)
    centre = features.mean(axis=0, dtype=np.float64)
    offsets = features - centre
    plain, across = offsets @ offsets.T, offsets @ covariance @ offsets.T
    towards = offsets @ (centre - mean)
    apart, other = float((centre - mean) @ (centre - mean)), float(np.trace(covariance))
    replicates = []
    for counts in resample_counts(count, resamples, seed):
        kept = np.flatnonzero(counts)
        share = counts[kept] / count
        inner, outer = plain[np.ix_(kept, kept)], across[np.ix_(kept, kept)]
        middle = share @ inner @ share
        spread = (counts[kept] @ np.diag(inner) - count * middle) / (count - 1)
        row = outer @ share
        centred_outer = outer - row[:, None] - row + share @ row
        weight = np.sqrt(counts[kept] / (count - 1))
        roots = np.sqrt(np.maximum(np.linalg.eigvalsh(weight[:, None] * centred_outer * weight), 0)).sum()
        replicates.append(middle + 2 * share @ towards[kept] + apart + spread + other - 2 * roots)
    found = centred(0.0, np.array(replicates))
    return found.high


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    root: Array = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return root


def _distance(mean: Array, covariance: Array, root: Array, other_mean: Array, other_covariance: Array) -> float:
    product = np.linalg.eigvalsh(root @ other_covariance @ root)
    overlap = np.sqrt(np.maximum(product, 0)).sum()
    shift = mean - other_mean
    return float(shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * overlap)
