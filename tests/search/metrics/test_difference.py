"""Two recipes' metrics, in pairs: intervals of the difference cover it, and the verdict follows from direction."""

from typing import ClassVar

import numpy as np
import pytest

from q2.search.metrics.base import Array, ImageMetric, Outputs
from q2.search.metrics.difference import image_difference, jackknife, output_difference, verdict
from q2.search.metrics.frechet import moments
from q2.search.metrics.intervals import Estimate
from q2.search.metrics.judged import JudgeAccuracy, JudgeFid
from q2.search.metrics.outputs import Sqnr
from q2.search.metrics.paired import Psnr
from tests.search.metrics.test_intervals import CLASSES, coverage, drawn

DRAWS, TWO_POINTS = 2000, 0.02


class Spread(ImageMetric):
    """What a plugin may compute: no mean, and no interval of its own."""

    name = "spread"
    better = "lower"

    def rows(self, chunk: object) -> Array:
        raise NotImplementedError

    def value(self, rows: Array, other: Array | None, labels: object = None) -> float:
        return float(rows.std())


class Judge:
    """A judge whose real digits have features like `drawn`."""

    found: ClassVar = moments(drawn(np.random.default_rng(9), 3000, 8))

    def real(self) -> tuple[Array, Array]:
        return self.found


def metric(kind: type[ImageMetric]) -> ImageMetric:
    made = kind.__new__(kind)
    vars(made)["judge"] = Judge()
    return made


def test_a_paired_mean_is_covered_and_narrower_than_either() -> None:
    rng, labels = np.random.default_rng(0), np.arange(40) % CLASSES
    found = []
    for _ in range(DRAWS):
        noise = 3 * rng.normal(size=40) + labels
        rows, base = noise + 0.5 * rng.normal(size=40), noise + 1 + 0.5 * rng.normal(size=40)
        found.append(image_difference(metric(Psnr), rows, base, None, labels))
    assert coverage(found, -1.0) == pytest.approx(0.95, abs=TWO_POINTS)
    assert np.mean([each.high - each.low for each in found]) < 0.6  # alone each has ± 1
    assert np.mean([verdict(Psnr, each) == "worse" for each in found]) > 0.99


def test_a_paired_share_is_covered() -> None:
    rng, labels = np.random.default_rng(1), np.zeros(150, int)
    found = []
    for _ in range(DRAWS):
        draws = rng.random(150)
        base, rows = (draws < 0.85).astype(float), ((draws >= 0.12) & (draws < 0.9)).astype(float)
        found.append(image_difference(metric(JudgeAccuracy), rows, base, None, labels))
    assert coverage(found, 0.78 - 0.85) == pytest.approx(0.95, abs=TWO_POINTS)


def test_a_paired_distance_is_covered() -> None:
    rng, labels = np.random.default_rng(2), np.arange(50) % CLASSES
    found = []
    for _ in range(DRAWS):
        base = drawn(rng, 50, 8)
        rows = 1.2 * base + 0.2 * rng.normal(size=base.shape)
        found.append(image_difference(metric(JudgeFid), rows, base, None, labels))
    assert coverage(found) == pytest.approx(0.95, abs=TWO_POINTS)


def test_what_a_plugin_computes_is_covered_by_the_jackknife() -> None:
    rng, labels = np.random.default_rng(3), np.zeros(100, int)
    found = []
    for _ in range(DRAWS):
        base = rng.normal(size=100)
        found.append(image_difference(metric(Spread), 1.3 * base + 0.3 * rng.normal(size=100), base, None, labels))
    assert coverage(found, np.sqrt(1.3**2 + 0.3**2) - 1) == pytest.approx(0.95, abs=TWO_POINTS)


def test_outputs_are_paired_by_image() -> None:
    rng = np.random.default_rng(4)
    images, labels = np.repeat(np.arange(16), 4), np.repeat(np.arange(16) % 2, 4)
    full = rng.normal(size=(64, 30))
    near, far = (full + scale * rng.normal(size=full.shape) for scale in (0.1, 0.2))
    one, other = (Outputs(made, full, np.zeros(4), images, labels) for made in (near, far))
    found = output_difference(Sqnr.__new__(Sqnr), one, other)
    assert found.value == pytest.approx(20 * np.log10(2), abs=1)
    assert 0 < found.low < found.value < found.high
    assert verdict(Sqnr, found) == "better"
    assert verdict(Sqnr, output_difference(Sqnr.__new__(Sqnr), one, one)) == "same"


def test_the_verdict_follows_the_direction() -> None:
    up, doubt = Estimate(2.0, 1.0, 3.0), Estimate(2.0, -1.0, 5.0)
    assert [verdict(kind, up) for kind in (Psnr, JudgeFid)] == ["better", "worse"]
    assert verdict(JudgeFid, doubt) == "within noise"
    assert verdict(Psnr, jackknife(lambda kept: float(kept.sum()), np.zeros(2, int))) == "within noise"
