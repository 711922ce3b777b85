"""The Fréchet distance between two sets of features, as Gaussians (FID: Heusel et al., NeurIPS'17)."""

import numpy as np
from numpy.typing import NDArray

from q2.search.metrics.intervals import Estimate, Labels, distance_estimate

__all__ = ["frechet_distance", "frechet_estimate", "frechet_paired", "moments"]

Array = NDArray[np.float64]
Features = NDArray[np.floating]
_FEW = 500  # samples whose pairs are enough to know the second derivatives' size
_TINY = 1e-9


def moments(features: Features) -> tuple[Array, Array]:
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
    features: Features,
    mean: Array,
    covariance: Array,
    labels: Labels | None = None,
    *,
    value: float | None = None,
) -> Estimate:
    """Return the distance of features (N, D) to a reference's `mean` (D,) and `covariance` (D, D), with its interval.

    The interval is for other features of the same classes, `labels` (N,); the reference is held fixed, as all trials
    share it. A `value` that another program computed replaces the distance. Takes O(D³ + N D²).
    """
    if value is None:
        value = frechet_distance(mean, covariance, *moments(features))
    count, plain = len(features), np.asarray(features, np.float64)
    centre = plain.mean(axis=0)
    left, _, singular = _overlap(plain - centre, _root(covariance) * np.sqrt(count))
    influences = ((plain - mean) ** 2).sum(axis=1) - count * (left**2 @ singular)
    few = left[:_FEW]
    pairs = 2 * count * (few * singular) @ few.T + count**2 * _curvature(few, few, singular)
    return distance_estimate(value, influences, pairs, labels).within(0, np.inf)


def frechet_paired(
    features: Features, other: Features, labels: Labels | None = None, *, value: float | None = None
) -> Estimate:
    """Return the distance between two sets of features (N, D) made from the same noise, with its interval.

    Other noise gives other features on both sides, so the interval is for pairs of the same classes, `labels` (N,).
    Raises `ValueError` for sets of different shapes.
    """
    if features.shape != other.shape:
        raise ValueError(f"expected features from the same noise, found the shapes {features.shape} and {other.shape}")
    if value is None:
        value = frechet_distance(*moments(other), *moments(features))
    count = len(features)
    x, y = (np.asarray(rows - rows.mean(axis=0, dtype=np.float64)) for rows in (features, other))
    left, right, singular = _overlap(x, y)
    apart = features.mean(axis=0, dtype=np.float64) - other.mean(axis=0, dtype=np.float64)
    influences = 2 * (x - y) @ apart + (x**2).sum(axis=1) + (y**2).sum(axis=1)
    influences -= count * (left**2 + right**2) @ singular
    x, y, left, right = x[:_FEW], y[:_FEW], left[:_FEW], right[:_FEW]
    pairs = 2 * count * ((left * singular) @ left.T + (right * singular) @ right.T) - 2 * (x @ y.T + y @ x.T)
    across = _curvature(left, right, singular)
    curvature = _curvature(left, left, singular) + _curvature(right, right, singular) - across - across.T
    return distance_estimate(value, influences, pairs + count**2 * curvature, labels).within(0, np.inf)


def _overlap(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return the singular value decomposition U (N, K), V (M, K), S (K,) of X Yᵀ / N, of rows (N, D) and (M, D).

    The trace of (C₁ C₂)^½ is the sum of S, C₁ and C₂ being Xᵀ X / N and Yᵀ Y / N. So the derivative by the share of
    the sample x_i is half the diagonal of U S Uᵀ, times N; that of y_j has V in place of U.
    """
    first, upper = np.linalg.qr(x)
    second, lower = np.linalg.qr(y)
    left, singular, right = np.linalg.svd(upper @ lower.T / len(x), full_matrices=False)
    kept = singular > _TINY * singular.max(initial=0)
    return first @ left[:, kept], second @ right[kept].T, singular[kept]


def _curvature(left: Array, right: Array, singular: Array) -> Array:
    """Return Σ_kl s_k s_l / (s_k + s_l) u_ik u_il v_jk v_jl, (N, M): the second derivatives of the sum of S.

    1 / (s_k + s_l) is ∫ exp(-t s_k) exp(-t s_l) dt, so that the sum is one of squares of matrices, over some t.
    """
    found = np.zeros((len(left), len(right)))
    exponents = np.linspace(np.log(3e-3), np.log(120), 28)
    if not len(singular):
        return found
    for t in np.exp(exponents) / singular[0]:
        found += t * ((left * singular * np.exp(-t * singular)) @ right.T) ** 2
    return np.asarray(found * (exponents[1] - exponents[0]))


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    root: Array = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return root


def _distance(mean: Array, covariance: Array, root: Array, other_mean: Array, other_covariance: Array) -> float:
    product = np.linalg.eigvalsh(root @ other_covariance @ root)
    overlap = np.sqrt(np.maximum(product, 0)).sum()
    shift = mean - other_mean
    found = float(shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * overlap)
    return max(found, 0.0)  # of equal Gaussians rounding leaves a little, of either sign
