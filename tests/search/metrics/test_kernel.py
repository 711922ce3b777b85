"""Kernel distances equal their definitions, clean-fid's, and the authors'."""

import numpy as np
import pytest

from q2.search.metrics.cleanfid import clean_fid
from q2.search.metrics.kernel import cmmd, kid


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, 8))


def test_kid_equals_clean_fid_on_one_subset_of_everything() -> None:
    x, y = features(60, 0, 0.2), features(60, 1)
    with clean_fid() as fid:
        expected = fid.kernel_distance(y, x, num_subsets=1, max_subset_size=60)
    assert kid(x, y) == pytest.approx(expected, rel=1e-9)
    assert kid(y, x) == pytest.approx(expected, rel=1e-9)


def test_kid_equals_its_definition_for_different_counts() -> None:
    x, y = features(7, 0, 0.5), features(5, 1)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 8 + 1) ** 3)

    ours = np.mean([kernel(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    theirs = np.mean([kernel(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    both = np.mean([kernel(a, b) for a in x for b in y])
    assert kid(x, y) == pytest.approx(ours + theirs - 2 * both, rel=1e-12)


def test_kid_is_unbiased() -> None:
    values = [kid(features(40, 2 * seed), features(40, 2 * seed + 1)) for seed in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)
    assert min(values) < 0


def test_cmmd_equals_its_definition_and_is_never_negative() -> None:
    x, y = features(6, 0, 0.5), features(9, 1)
    unit_x, unit_y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.mean([np.exp(-((p - q) ** 2).sum() / 200) for p in a for q in b]))

    expected = 1000 * (mean(unit_x, unit_x) + mean(unit_y, unit_y) - 2 * mean(unit_x, unit_y))
    assert cmmd(x, y) == pytest.approx(expected, rel=1e-9)
    assert cmmd(3 * x, y) == pytest.approx(expected, rel=1e-9)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)


def test_one_sample_is_too_few() -> None:
    with pytest.raises(ValueError, match=r"two or more samples, found the shapes \(1, 8\) and \(4, 8\)"):
        kid(features(1, 0), features(4, 0))
