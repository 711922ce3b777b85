"""Intervals cover what other draws give, 95 % of the time, and are as wide as other draws spread.

Simulated draws keep the classes, and draw the noise anew. `SURE` is the tolerance of coverage: three standard errors of
a share near 95 % over so many draws, beside two points for what is not exactly normal.
"""

import math

import numpy as np
import pytest
from scipy import stats

from q2.search.metrics.base import Outputs
from q2.search.metrics.frechet import frechet_estimate, frechet_paired, moments
from q2.search.metrics.intervals import Estimate, accuracy, mean_estimate, share_estimate
from q2.search.metrics.kernel import cmmd_estimate, kid_estimate
from q2.search.metrics.outputs import Sqnr
from q2.search.metrics.rank import spearman_estimate

CLASSES = 10


def sure(draws: int) -> float:
    return 0.02 + 3 * math.sqrt(0.05 * 0.95 / draws)


def coverage(estimates: list[Estimate], truth: float | None = None) -> float:
    """Return how often the truth is covered: the mean of all draws where none is known."""
    wanted = np.mean([estimate.value for estimate in estimates]) if truth is None else truth
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in estimates)
    return float(np.mean([estimate.low <= wanted <= estimate.high for estimate in estimates]))


def ratio(estimates: list[Estimate]) -> float:
    """Return the mean half-width over 1.96 standard deviations of the values."""
    half = np.mean([(estimate.high - estimate.low) / 2 for estimate in estimates])
    return float(half / (1.96 * np.std([estimate.value for estimate in estimates], ddof=1)))


@pytest.mark.parametrize("count", [20, 60, 200])
def test_a_mean_varies_as_images_of_one_class_do(count: int) -> None:
    rng = np.random.default_rng(count)
    labels = np.arange(count) % CLASSES
    level, noise = 3 * rng.normal(size=CLASSES), rng.uniform(0.5, 1.5, CLASSES)
    found = [mean_estimate(level[labels] + noise[labels] * rng.normal(size=count), labels) for _ in range(1000)]
    assert coverage(found, float(level.mean())) == pytest.approx(0.95, abs=sure(1000))
    assert ratio(found) == pytest.approx(1, abs=0.25)
    without = mean_estimate(level[labels] + noise[labels] * rng.normal(size=count))
    assert without.high - without.low > 2 * np.mean([estimate.high - estimate.low for estimate in found])


def test_few_values_have_students_interval_and_one_has_none() -> None:
    values = np.random.default_rng(0).normal(size=(2000, 4))
    assert coverage([mean_estimate(row) for row in values], 0.0) == pytest.approx(0.95, abs=0.02)
    expected = stats.t.interval(0.95, 3, values[0].mean(), stats.sem(values[0]))
    found = mean_estimate(values[0])
    assert (found.low, found.high) == pytest.approx(expected)
    assert mean_estimate([3.0]) == Estimate(3.0, -np.inf, np.inf)
    assert mean_estimate([3.0, 3.0]) == Estimate(3.0, 3.0, 3.0)


def test_classes_of_one_image_are_pooled() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert mean_estimate(values, np.arange(5)) == mean_estimate(values)
    mixed = mean_estimate(values, np.array([0, 0, 1, 2, 3]))
    assert mixed == mean_estimate(values, np.array([0, 0, 1, 1, 1]))
    assert mean_estimate(values, np.array([0, 0, 0, 1, 1])) != mean_estimate(values, np.array([0, 0, 0, 0, 1]))
    assert mean_estimate(values, np.array([0, 0, 0, 0, 1])) == mean_estimate(values)
    with pytest.raises(ValueError, match="a label for each of 5 samples, found 4"):
        mean_estimate(values, np.arange(4))


@pytest.mark.parametrize("size", [8, 40])
def test_an_images_steps_are_one_draw_of_a_forward_metric(size: int) -> None:
    """Noise is scaled per image and step, so that images and the fixed steps differ in decibels."""
    rng = np.random.default_rng(1)
    images, labels = np.tile(np.arange(size), 4), np.tile(np.arange(size) % CLASSES, 4)
    steps = np.repeat([0.0, 2.0, 4.0, 8.0], size)
    found = []
    for _ in range(800):
        decibel = 10 + steps + rng.normal(size=size)[images] + 0.2 * rng.normal(size=4 * size)
        full = np.ones((4 * size, 1))
        made = full * (1 + 10 ** (-decibel / 20))[:, None]
        found.append(Sqnr.value(object.__new__(Sqnr), Outputs(made, full, np.ones(4), images, labels)))
    assert coverage(found, 13.5) == pytest.approx(0.95, abs=sure(800))
    assert 0.95 < ratio(found) < 1.3


@pytest.mark.parametrize("count", [20, 60, 100, 200, 500])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.95, 0.99])
def test_a_share_is_covered_as_a_count_allows(count: int, share: float) -> None:
    """Exactly, over all counts: a count is discrete, so that coverage swings about 95 %, most near 1."""
    bounds = [share_estimate(np.arange(count) < held) for held in range(count + 1)]
    weights = stats.binom.pmf(np.arange(count + 1), count, share)
    covered = sum(w for w, found in zip(weights, bounds, strict=True) if found.low <= share <= found.high)
    assert covered == pytest.approx(0.95, abs=0.02 if count * (1 - share) >= 5 else 0.045)
    assert bounds[-1].low < 1 == bounds[-1].high
    assert bounds[0].high > 0 == bounds[0].low
    assert (share_estimate([True, True, False]).low, share_estimate([True, True, False]).high) == pytest.approx(
        (0.20765960, 0.93850803)
    )  # statsmodels.stats.proportion.proportion_confint(2, 3, method="wilson")


def test_an_accuracy_is_a_share() -> None:
    assert accuracy([1, 2, 3], [1, 2, 2]) == share_estimate([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="one or more values"):
        share_estimate([])
    with pytest.raises(ValueError, match="one or more values"):
        mean_estimate([])


def drawn(rng: np.random.Generator, count: int, width: int, scale: float = 1.0) -> np.ndarray:
    """Return features (N, D) of classes with centres of their own, correlated."""
    fixed = np.random.default_rng(5)
    centres, mix = fixed.normal(size=(CLASSES, width)), fixed.normal(size=(width, width)) / np.sqrt(width)
    return np.asarray((centres[np.arange(count) % CLASSES] + scale * rng.normal(size=(count, width))) @ mix)


@pytest.mark.parametrize(("count", "width", "scale"), [(100, 8, 1.0), (100, 8, 1.5), (60, 64, 1.0), (60, 64, 1.5)])
def test_a_frechet_distance_is_covered(count: int, width: int, scale: float) -> None:
    """Of the same kind as the reference (scale 1), where the linear part vanishes, or not.

    With fewer samples than features the intervals are up to 1.3 times as wide as they need be.
    """
    rng, labels = np.random.default_rng(3), np.arange(count) % CLASSES
    mean, covariance = moments(drawn(rng, 3000, width))
    found = [frechet_estimate(drawn(rng, count, width, scale), mean, covariance, labels) for _ in range(200)]
    assert coverage(found) == pytest.approx(0.95, abs=sure(200))
    assert 0.85 < ratio(found) < (1.25 if count > width else 1.4)
    assert min(estimate.low for estimate in found) >= 0
    sets = [drawn(rng, count, width) for _ in range(200)]
    paired = [frechet_paired(full + 0.5 * rng.normal(size=full.shape), full, labels) for full in sets]
    assert coverage(paired) == pytest.approx(0.95, abs=sure(200))
    assert 0.85 < ratio(paired) < 1.25


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("estimate", [kid_estimate, cmmd_estimate])
def test_a_kernel_distance_is_covered(estimate: object, shift: float) -> None:
    rng, labels = np.random.default_rng(4), np.arange(100) % CLASSES
    assert callable(estimate)
    reference = drawn(rng, 200, 8)
    found = [estimate(drawn(rng, 100, 8) + shift, reference, labels) for _ in range(250)]
    assert coverage(found) == pytest.approx(0.95, abs=sure(250))
    assert 0.85 < ratio(found) < 1.25


@pytest.mark.parametrize(("rho", "count"), [(0.0, 20), (0.5, 60), (0.9, 20), (0.98, 60)])
def test_a_rank_correlation_is_covered(rho: float, count: int) -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(800, count))
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
    found = [spearman_estimate(*pair) for pair in zip(x, y, strict=True)]
    assert coverage(found, 6 / np.pi * np.arcsin(rho / 2)) == pytest.approx(0.95, abs=sure(800))
