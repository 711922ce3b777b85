"""Metrics of the embedded denoisers' judge: what it recognises, and how far its features are from real digits'."""

import numpy as np
import torch

from q2.denoisers import Denoiser
from q2.errors import ConfigError
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.search.metrics.frechet import frechet_estimate, moments
from q2.search.metrics.intervals import Estimate
from q2.settings import EvaluationSettings

__all__ = ["JudgeAccuracy", "JudgeFid", "JudgeFidFull"]


class _Judged(ImageMetric):
    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        judge = denoiser.judge()
        if judge is None:
            raise ConfigError(f"{self.name}: {denoiser.label} has no judge; only the embedded denoisers have")
        self.judge = judge


class JudgeAccuracy(_Judged):
    """Share of the images that the judge recognises as their class."""

    name = "judge-accuracy"
    better = "higher"
    unit = "share"

    def rows(self, chunk: Chunk) -> Array:
        """Return 1 for each image that is recognised, 0 for the others."""
        with torch.no_grad():
            seen = self.judge(chunk.made.images).argmax(1)
        return np.asarray((seen == chunk.made.labels).double())


class _Features(_Judged):
    better = "lower"

    def rows(self, chunk: Chunk) -> Array:
        """Return the judge's features of each image."""
        with torch.no_grad():
            return np.asarray(self.judge.features(chunk.made.images).double())


class JudgeFid(_Features):
    """Fréchet distance of the judge's features to those of real digits."""

    name = "judge-fid"

    def value(self, rows: Array, full: Array | None) -> Estimate:
        """Return the distance to real digits."""
        return frechet_estimate(rows, *self.judge.real())


class JudgeFidFull(_Features):
    """Fréchet distance of the judge's features to those of full precision's images."""

    name = "judge-fid-fp"
    needs_full = True

    def value(self, rows: Array, full: Array | None) -> Estimate:
        """Return the distance to full precision's own images."""
        assert full is not None
        return frechet_estimate(rows, *moments(full))
