"""The Fréchet distance equals its definition, clean-fid's, and what Gaussians are known to give."""

import numpy as np
import pytest

from q2.search.metrics.cleanfid import clean_fid
from q2.search.metrics.frechet import frechet_distance, frechet_estimate, frechet_paired, moments
from q2.search.metrics.intervals import Estimate


def features(count: int, width: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, (count, width)) @ np.random.default_rng(99).normal(0, 1, (width, width))


@pytest.mark.parametrize("width", [1, 2, 16, 64])
def test_it_equals_clean_fid(width: int) -> None:
    first, second = moments(features(500, width)), moments(features(400, width, 1, 0.3))
    with clean_fid() as fid:
        expected = fid.frechet_distance(*first, *second)
    assert frechet_distance(*first, *second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(*second, *first) == pytest.approx(expected, rel=1e-6)


def test_commuting_covariances_have_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    a, b = rng.uniform(0.1, 5, 8), rng.uniform(0.1, 5, 8)
    shift = rng.normal(size=8)
    found = frechet_distance(np.zeros(8), turn * a @ turn.T, shift, turn * b @ turn.T)
    assert found == pytest.approx(shift @ shift + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)


def test_fewer_samples_than_features_are_exact_too() -> None:
    mean, covariance = moments(features(20, 64))
    assert frechet_distance(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-5 * np.trace(covariance))
    scaled = frechet_distance(mean, covariance, mean, 4 * covariance)
    assert scaled == pytest.approx(np.trace(covariance), rel=1e-6)


def test_features_in_half_precision_are_summed_in_double() -> None:
    values = np.full((3000, 2), 100, np.float16)
    values[::2] += 1
    mean, _ = moments(values)
    np.testing.assert_allclose(mean, 100.5, rtol=1e-12)


def weighted(shares: np.ndarray, ours: np.ndarray, other: np.ndarray | None = None) -> float:
    """Return the distance of samples that count by their shares; to samples of the same shares, or to a Gaussian."""
    shares = shares / shares.sum()

    def of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = shares @ rows
        return mean, (rows - mean).T * shares @ (rows - mean)

    mean, covariance = moments(features(200, 4, 1)) if other is None else of(other)
    return frechet_distance(mean, covariance, *of(ours))


@pytest.mark.parametrize("paired", [False, True])
def test_influences_and_pairs_are_derivatives_by_the_samples_shares(
    paired: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Influences of centred shares: N times the derivative where one sample gains what all others lose."""
    kept: dict[str, np.ndarray] = {}
    monkeypatch.setattr(
        "q2.search.metrics.frechet.distance_estimate",
        lambda value, influences, pairs, labels: kept.update(one=influences, two=pairs) or Estimate(value, 0, value),
    )
    ours, full = features(12, 4, 2, 0.5), features(12, 4, 3)
    if paired:
        frechet_paired(ours, full)
    else:
        frechet_estimate(ours, *moments(features(200, 4, 1)))
    shares, step = np.full(12, 1 / 12), 1e-4
    moved = step * (np.eye(12) - 1 / 12)
    at = [[weighted(shares + s * a, ours, full if paired else None) for s in (1, -1)] for a in moved]
    slope = np.array([up - down for up, down in at], np.float64) / (2 * step)
    np.testing.assert_allclose(kept["one"] - kept["one"].mean(), slope, rtol=1e-5, atol=1e-6)

    def bent(i: int, j: int) -> float:
        signs = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]
        given = full if paired else None
        return sum(w * weighted(shares + s * moved[i] + r * moved[j], ours, given) for s, r, w in signs) / (4 * step**2)

    second = kept["two"] - kept["two"].mean(0) - kept["two"].mean(1, keepdims=True) + kept["two"].mean()
    for i, j in ((0, 1), (3, 7), (10, 2)):
        assert second[i, j] == pytest.approx(bent(i, j), rel=0.02, abs=0.02)


def test_a_distance_of_nothing_has_no_bound_below_zero_and_sets_of_unlike_sizes_are_no_pairs() -> None:
    found = frechet_paired(features(30, 4), features(30, 4))
    assert found.value == pytest.approx(0, abs=1e-6)
    assert found.low <= found.value
    assert frechet_estimate(features(30, 4), *moments(features(30, 4, 1)), value=0.5).value == 0.5
    with pytest.raises(ValueError, match=r"same noise, found the shapes \(3, 4\) and \(2, 4\)"):
        frechet_paired(features(3, 4), features(2, 4))


def test_the_distance_of_equal_sets_is_never_below_zero() -> None:
    for seed in range(20):
        known = moments(1e3 * np.random.default_rng(seed).normal(size=(40, 64)))
        assert 0 <= frechet_distance(*known, *known) < 1


def test_one_sample_has_no_covariance() -> None:
    with pytest.raises(ValueError, match=r"two or more samples, found the shape \(1, 4\)"):
        moments(np.zeros((1, 4)))
