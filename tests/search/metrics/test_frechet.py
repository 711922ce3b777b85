"""The Fréchet distance equals its definition, clean-fid's, and what Gaussians are known to give."""

import numpy as np
import pytest

from q2.search.metrics.cleanfid import clean_fid
from q2.search.metrics.frechet import frechet_distance, frechet_estimate, moments
from q2.search.metrics.intervals import centred, resample_counts


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


def test_the_interval_is_seeded_and_covers_other_samples() -> None:
    mean, covariance = moments(features(4000, 6, 50))
    estimate = frechet_estimate(features(300, 6, 0, 0.3), mean, covariance, seed=3)
    assert estimate == frechet_estimate(features(300, 6, 0, 0.3), mean, covariance, seed=3)
    assert estimate != frechet_estimate(features(300, 6, 0, 0.3), mean, covariance, seed=4)
    assert estimate.value == frechet_distance(mean, covariance, *moments(features(300, 6, 0, 0.3)))
    others = [frechet_distance(mean, covariance, *moments(features(300, 6, seed, 0.3))) for seed in range(1, 101)]
    half = (estimate.high - estimate.low) / 2
    assert half == pytest.approx(1.96 * np.std(others), rel=0.35)


def test_a_resample_by_counts_is_the_resample_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = resample_counts(30, 5, seed=0)
    monkeypatch.setattr("q2.search.metrics.frechet.resample_counts", lambda size, resamples, seed: counts)
    mean, covariance = moments(features(200, 4, 1))
    ours = features(30, 4, 2, 7.0)
    written = [moments(np.repeat(ours, row.astype(int), axis=0)) for row in counts]
    expected = centred(
        frechet_distance(mean, covariance, *moments(ours)),
        np.array([frechet_distance(mean, covariance, *entry) for entry in written]),
    )
    found = frechet_estimate(ours, mean, covariance)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_one_sample_has_no_covariance() -> None:
    with pytest.raises(ValueError, match=r"two or more samples, found the shape \(1, 4\)"):
        moments(np.zeros((1, 4)))
