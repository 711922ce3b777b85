"""Rank correlations equal SciPy's, ties and weighted pairs included."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from q2.search.metrics.rank import _weighted, spearman, spearman_estimate


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-1e6, 1e6)), min_size=2, max_size=30))
@settings(deadline=None, max_examples=100, derandomize=True)
def test_spearman_equals_scipy(pairs: list[tuple[int, float]]) -> None:
    x, y = zip(*pairs, strict=True)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert np.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


def test_a_sample_by_counts_is_the_sample_written_out() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 20).astype(float), rng.normal(size=20)
    counts = rng.multinomial(20, np.full(20, 1 / 20), size=30)
    found = _weighted(x, y, counts.astype(float))
    for row, value in zip(counts, found, strict=True):
        expected = scipy.stats.spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic
        assert value == pytest.approx(expected, abs=1e-12)


def test_pairs_in_perfect_order_leave_a_doubt() -> None:
    found = spearman_estimate(range(10), range(10))
    assert found.value == found.high == 1
    assert 0.8 < found.low < 0.99
    turned = spearman_estimate(range(10), range(10, 0, -1))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    few = spearman_estimate([1, 2, 3], [1, 2, 3])
    assert (few.low, few.high) == (-1, 1)
    alike = spearman_estimate([1, 1, 1, 1, 2], [1, 2, 3, 4, 5])
    assert (alike.low, alike.high) == (-1, 1)


def test_what_cannot_be_correlated_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more pairs"):
        spearman([1.0], [1.0])
    with pytest.raises(ValueError, match="two or more pairs"):
        spearman([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="finite"):
        spearman([1.0, np.nan], [1.0, 2.0])
    constant = spearman_estimate([1.0, 1.0], [1.0, 2.0])
    assert np.isnan([constant.value, constant.low, constant.high]).all()
