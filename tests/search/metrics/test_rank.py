"""Rank correlations equal SciPy's, ties and resamples included; intervals cover what they say."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from q2.search.metrics.intervals import accuracy, mean_estimate, resample_counts
from q2.search.metrics.rank import _weighted, spearman, spearman_estimate


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-1e6, 1e6)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_spearman_equals_scipy(pairs: list[tuple[int, float]]) -> None:
    x, y = zip(*pairs, strict=True)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


def test_a_resample_by_counts_is_the_resample_written_out() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 20).astype(float), rng.normal(size=20)
    counts = resample_counts(20, 30, seed=1)
    found = _weighted(x, y, counts)
    for row, value in zip(counts.astype(int), found, strict=True):
        expected = scipy.stats.spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_a_correlation_is_seeded_and_covers_the_truth() -> None:
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=60)
        y = x + rng.normal(size=60)
        found = spearman_estimate(x, y, seed=7, resamples=300)
        assert found == spearman_estimate(x, y, seed=7, resamples=300)
        assert found.low <= found.value <= found.high
        covered += found.low <= 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2) <= found.high
    assert covered >= 85


def test_the_interval_of_a_mean_covers_the_truth_and_an_accuracy_is_a_mean() -> None:
    covered = 0
    for seed in range(100):
        right = np.random.default_rng(seed).random(300) < 0.9
        found = mean_estimate(right, seed=seed)
        assert found.value == right.mean()
        assert 0 <= found.low <= found.high <= 1
        covered += found.low <= 0.9 <= found.high
    assert covered >= 88
    assert accuracy([1, 2, 3], [1, 2, 2], seed=4) == mean_estimate([1.0, 1.0, 0.0], seed=4)


def test_what_cannot_be_correlated_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more pairs"):
        spearman([1.0], [1.0])
    with pytest.raises(ValueError, match="two or more pairs"):
        spearman([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="finite"):
        spearman([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="one or more values"):
        mean_estimate([])
    constant = spearman_estimate([1.0, 1.0], [1.0, 2.0])
    assert np.isnan([constant.value, constant.low, constant.high]).all()
