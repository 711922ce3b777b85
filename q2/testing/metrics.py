"""What every metric must do, as tests that its own inherit."""

from typing import Any, ClassVar

import numpy as np
import torch

from q2.denoisers import Denoiser, Samples, load
from q2.search.metrics.base import Array, Chunk, ForwardMetric, FreeMetric, ImageMetric, Metric, Outputs
from q2.search.metrics.contract import check_forward, check_images, estimate_of, rows_of, value_of
from q2.search.metrics.intervals import Estimate
from q2.search.objective.target import Target
from q2.settings import EvaluationSettings

__all__ = ["MetricSuite"]

CLASSES = 4


class MetricSuite:
    """Tests of a metric: a subclass called ``Test…`` sets `metric`, and pytest finds the rest.

    Images and outputs are made up: full precision's, and the same with noise of a given `strength`; a metric that does
    not fall with noise overrides `images` or `outputs`. `side` and `colours` are those of the images.
    `narrows` is false where the interval is a spread, and no confidence interval. A metric that needs files overrides
    `settings`, one that needs another denoiser `denoiser`.
    """

    metric: ClassVar[type[Metric]]
    side: ClassVar[int] = 32
    colours: ClassVar[int] = 3
    narrows: ClassVar[bool] = True

    def settings(self) -> EvaluationSettings:
        """Return the settings of the evaluation."""
        return EvaluationSettings()

    def denoiser(self) -> Denoiser:
        """Return the denoiser that is measured: a tiny one."""
        return load("dit", tiny=True, device="cpu")

    def made(self) -> Any:
        """Return the metric, as a search makes it."""
        self.metric.check(self.denoiser(), self.settings())
        return self.metric(self.denoiser(), self.settings())

    def images(self, count: int, strength: float, first: int = 0) -> Chunk:
        """Return images `first` to `first` + `count`, with noise of a strength, beside full precision's."""
        chunks = [self._image(index, strength) for index in range(first, first + count)]
        labels = torch.arange(first, first + count) % CLASSES
        pairs = [
            Samples(*(torch.cat(parts) for parts in zip(*side, strict=True))) for side in zip(*chunks, strict=True)
        ]
        made, full = (Samples(pair.images, labels, pair.labels) for pair in pairs)
        return Chunk(made, full)

    def _image(self, index: int, strength: float) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        generator = torch.Generator().manual_seed(index)
        shapes = (1, self.colours, self.side, self.side), (1, 4, self.side // 4, self.side // 4)
        full = [torch.nn.functional.avg_pool2d(torch.rand(s, generator=generator), 5, 1, 2) for s in shapes]
        noise = [torch.randn(s, generator=generator) for s in shapes]
        made = [(f + strength * n).clamp(0, 1) for f, n in zip(full, noise, strict=True)]
        return (made[0], made[1]), (full[0], full[1])

    def outputs(self, count: int, strength: float) -> Outputs:
        """Return outputs for `count` inputs, two of each image, with noise of a strength; noise takes its time."""
        rng = np.random.default_rng(0)
        full, noise = rng.normal(size=(2, count, 4, 8, 8))
        seconds = 0.01 * (1 + strength) * rng.uniform(0.9, 1.1, count)
        images = np.arange(count) // 2
        return Outputs(full + strength * noise, full, seconds, images, images % CLASSES)

    def value(self, count: int, strength: float) -> Estimate:
        """Return the metric's value for `count` images or inputs."""
        metric = self.made()
        if isinstance(metric, ForwardMetric):
            return estimate_of(metric.value(self.outputs(count, strength)), metric.bounds)
        assert isinstance(metric, ImageMetric)
        chunk = self.images(count, strength)
        return self._of(metric, rows_of(metric, chunk), np.asarray(chunk.made.labels))

    def _of(self, metric: ImageMetric, rows: Array, labels: Any) -> Estimate:
        other = rows_of(metric, self.images(len(labels), 0.0)) if metric.against else None
        return value_of(metric, rows, other, labels)

    def test_it_is_a_complete_metric_that_a_target_can_name(self) -> None:
        """The class is what q2 takes, and a target may have its name."""
        self.metric.check_class()
        assert self.metric.__doc__
        low, high = self.metric.bounds
        assert low < high
        name = self.metric.name
        target = Target.parse(f"{self.metric.sign()}*{name} - 2", [name])
        assert target.value({name: 1.5}) == self.metric.sign() * 1.5 - 2

    def test_noise_makes_it_worse_as_its_direction_says(self) -> None:
        """More noise is worse: lower where higher is better, higher where lower is."""
        if issubclass(self.metric, FreeMetric):
            costs = {"avg_bits": 4.0, self.metric.name: 3.0}
            assert np.isfinite(self.made().value(costs))
            return
        values = [self.metric.sign() * self.value(16, strength).value for strength in (0.02, 0.1, 0.4)]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1]

    def test_its_interval_is_around_its_value_within_its_bounds_and_narrows(self) -> None:
        """The value lies in the interval, the interval in `bounds`; sixteen times the images make it narrower."""
        if issubclass(self.metric, FreeMetric):
            assert not self.metric.estimate
            return
        low, high = self.metric.bounds
        found = [self.value(count, 0.2) for count in (8, 128)]
        for each in found:
            assert low <= each.low <= each.value <= each.high <= high
        if self.narrows and self.metric.estimate and found[0].high > found[0].low:
            assert found[1].high - found[1].low < found[0].high - found[0].low

    def test_the_same_images_have_the_same_value_in_any_batches_and_order(self) -> None:
        """Rows belong to their images: they depend on no other image of a chunk; nor does the value on their order."""
        metric = self.made()
        if isinstance(metric, ForwardMetric):
            first, second = (metric.value(self.outputs(16, 0.2)) for _ in range(2))
            assert first == second
        elif isinstance(metric, ImageMetric):
            whole = rows_of(metric, self.images(12, 0.2))
            assert np.array_equal(whole, rows_of(metric, self.images(12, 0.2)))
            parts = [rows_of(metric, self.images(count, 0.2, first)) for first, count in ((0, 5), (5, 7))]
            np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-5)
            if not metric.against:
                labels, order = np.arange(12) % CLASSES, np.random.default_rng(0).permutation(12)
                one, other = self._of(metric, whole, labels), self._of(metric, whole[order], labels[order])
                found = np.array([[each.value, each.low, each.high] for each in (one, other)])
                np.testing.assert_allclose(found[0], found[1], rtol=1e-6, atol=1e-9)

    def test_it_leaves_images_and_random_numbers_alone(self) -> None:
        """Neither the images nor the global random numbers of torch and NumPy change."""
        metric, chunk = self.made(), self.images(4, 0.2)
        before, state = chunk.made.images.clone(), torch.get_rng_state()
        numbers = np.random.get_state(legacy=False)["state"]["key"].copy()
        if isinstance(metric, ImageMetric):
            rows = rows_of(metric, chunk)
            self._of(metric, rows, np.asarray(chunk.made.labels))
        elif isinstance(metric, ForwardMetric):
            metric.value(self.outputs(8, 0.2))
        assert torch.equal(chunk.made.images, before)
        assert torch.equal(torch.get_rng_state(), state)
        assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numbers)

    def test_it_passes_the_checks_that_a_search_makes(self) -> None:
        """What a search tries on full precision's first images, before any trial, raises nothing."""
        metric = self.made()
        if isinstance(metric, ImageMetric):
            check_images([metric], self.images(3, 0.0))
        elif isinstance(metric, ForwardMetric):
            check_forward([metric], self.outputs(4, 0.0))


def _smooth(shape: tuple[int, int, int], number: int) -> torch.Tensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(2 * number))
    return torch.nn.functional.avg_pool2d(values, 5, 1, 2)


def _noise(shape: tuple[int, int, int], number: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2 * number + 1))
