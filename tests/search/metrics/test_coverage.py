"""Each kind of interval covers the truth 95 % of the time, within two points, over 2,000 draws."""

from collections.abc import Callable

import numpy as np
import pytest

from q2.denoisers.comparison import accuracies
from q2.search.metrics.frechet import frechet_estimate, frechet_paired, moments
from q2.search.metrics.intervals import Estimate, mean_estimate, share_estimate
from q2.search.metrics.kernel import cmmd_estimate, kid_estimate
from q2.search.metrics.rank import spearman_estimate
from tests.search.metrics.test_intervals import CLASSES, coverage, drawn

DRAWS, TWO_POINTS = 2000, 0.02
COUNT, WIDTH = 50, 8
LABELS = np.arange(COUNT) % CLASSES
REFERENCE = drawn(np.random.default_rng(9), 200, WIDTH)
MOMENTS = moments(drawn(np.random.default_rng(8), 3000, WIDTH))


def mean(rng: np.random.Generator) -> Estimate:
    return mean_estimate(3 * LABELS + rng.normal(size=COUNT) * (1 + LABELS % 3), LABELS)


def share(rng: np.random.Generator) -> Estimate:
    return share_estimate(rng.random(COUNT) < 0.8)


def paired_share(rng: np.random.Generator) -> Estimate:
    import torch

    draws = torch.from_numpy(rng.random(150))
    found = accuracies(draws < 0.85, (draws >= 0.12) & (draws < 0.9))
    return Estimate(found.loss, found.low, found.high)


def distance(rng: np.random.Generator) -> Estimate:
    return frechet_estimate(drawn(rng, COUNT, WIDTH, 1.5), *MOMENTS, LABELS)


def paired_distance(rng: np.random.Generator) -> Estimate:
    full = drawn(rng, COUNT, WIDTH)
    return frechet_paired(full + 0.5 * rng.normal(size=full.shape), full, LABELS)


def kernel(rng: np.random.Generator) -> Estimate:
    return kid_estimate(drawn(rng, COUNT, WIDTH) + 0.5, REFERENCE, LABELS)


def bounded_kernel(rng: np.random.Generator) -> Estimate:
    return cmmd_estimate(drawn(rng, COUNT, WIDTH) + 0.5, REFERENCE, LABELS)


def rank(rng: np.random.Generator) -> Estimate:
    x = rng.normal(size=60)
    return spearman_estimate(x, 0.8 * x + 0.6 * rng.normal(size=60))


@pytest.mark.parametrize(
    ("interval", "truth"),
    [
        (mean, 13.5),
        (share, 0.8),
        (paired_share, 0.07),
        (distance, None),
        (paired_distance, None),
        (kernel, None),
        (bounded_kernel, None),
        (rank, 6 / np.pi * np.arcsin(0.4)),
    ],
)
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(
    interval: Callable[[np.random.Generator], Estimate], truth: float | None
) -> None:
    """Where no formula gives the truth it is the mean of all draws: the value for as many images."""
    rng = np.random.default_rng(1)
    found = [interval(rng) for _ in range(DRAWS)]
    assert coverage(found, truth) == pytest.approx(0.95, abs=TWO_POINTS)
    if interval in (share, distance, paired_distance, bounded_kernel):
        assert min(each.low for each in found) >= 0
