"""The metrics that ship keep to the suite that plugins' metrics are held to; ones that break its rules do not."""

import numpy as np
import pytest
import torch

from q2.denoisers import Denoiser, load
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.search.metrics.costs import AvgBits, BitOperations, ModelSize, OutputError, QuantizedError, QuantizedSize
from q2.search.metrics.judged import JudgeAccuracy, JudgeFid, JudgeFidFull
from q2.search.metrics.outputs import Latency, Sqnr
from q2.search.metrics.paired import LatentSqnr, Psnr, Ssim
from q2.testing import MetricSuite


class TestAvgBits(MetricSuite):
    metric = AvgBits


class TestBops(MetricSuite):
    metric = BitOperations


class TestQuantizedSize(MetricSuite):
    metric = QuantizedSize


class TestModelSize(MetricSuite):
    metric = ModelSize


class TestOutputError(MetricSuite):
    metric = OutputError


class TestQuantizedError(MetricSuite):
    metric = QuantizedError


class TestSqnr(MetricSuite):
    metric = Sqnr


class TestLatency(MetricSuite):
    metric = Latency
    narrows = False


class TestLatentSqnr(MetricSuite):
    metric = LatentSqnr


class TestPsnr(MetricSuite):
    metric = Psnr


class TestSsim(MetricSuite):
    metric = Ssim


class _Judged(MetricSuite):
    colours = 1

    def denoiser(self) -> Denoiser:
        return load("digits-dit", device="cpu")


class TestJudgeFid(_Judged):
    metric = JudgeFid


class TestJudgeFidFull(_Judged):
    metric = JudgeFidFull


class TestJudgeAccuracy(_Judged):
    metric = JudgeAccuracy

    def images(self, count: int, strength: float, first: int = 0) -> Chunk:
        """Real digits, which noise makes hard to read."""
        from sklearn.datasets import load_digits

        from q2.denoisers import Samples

        data = load_digits()
        images = torch.tensor(data.images[first : first + count] / 16, dtype=torch.float32)[:, None]
        full = torch.nn.functional.interpolate(images, size=(32, 32), mode="bicubic").clamp(0, 1)
        noise = torch.randn(len(full), 1, 32, 32, generator=torch.Generator().manual_seed(first))
        labels = torch.tensor(data.target[first : first + count])
        made = (full + 4 * strength * noise).clamp(0, 1)
        return Chunk(Samples(made, labels, made), Samples(full, labels, full))


class Backwards(ImageMetric):
    """Calls an error good, and lets images of a chunk depend on each other."""

    name = "backwards"
    better = "higher"

    def rows(self, chunk: Chunk) -> Array:
        error = np.asarray((chunk.made.images - chunk.full.images).square().mean((1, 2, 3)).double())
        return np.asarray(error - error.mean() + error.sum())


class BackwardsSuite(MetricSuite):
    metric = Backwards


def test_the_suite_finds_a_metric_in_the_wrong_direction() -> None:
    with pytest.raises(AssertionError):
        BackwardsSuite().test_noise_makes_it_worse_as_its_direction_says()


def test_the_suite_finds_rows_that_depend_on_other_images() -> None:
    with pytest.raises(AssertionError):
        BackwardsSuite().test_the_same_images_have_the_same_value_in_any_batches_and_order()
