"""Metrics of the embedded denoisers' judges: what they recognise, and how far their features are from real images'."""

import math

import numpy as np
import torch

from q2.denoisers import Denoiser
from q2.errors import ConfigError
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.search.metrics.frechet import frechet_estimate, frechet_paired
from q2.search.metrics.intervals import Estimate, Labels, share_estimate
from q2.settings import EvaluationSettings

__all__ = ["JudgeAccuracy", "JudgeFid", "JudgeFidFull"]


class _Judged(ImageMetric):
    @classmethod
    def check(cls, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        """Raise `ConfigError` for a denoiser without a judge."""
        if denoiser.judge() is None:
            raise ConfigError(f"{cls.name}: {denoiser.label} has no judge; only the embedded denoisers have")

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        self.check(denoiser, settings)
        judge = denoiser.judge()
        assert judge is not None
        self.judge = judge.requires_grad_(False)


class JudgeAccuracy(_Judged):
    """Share of the images that the judge recognises as their class."""

    name = "judge-accuracy"
    better = "higher"
    unit = "share"
    bounds = (0.0, 1.0)

    def rows(self, chunk: Chunk) -> Array:
        """Return (N,): 1 for an image that is recognized, 0 for others; NaN if a logit is not finite."""
        logits = self.judge(chunk.made.images)
        right = (logits.argmax(1) == chunk.made.labels).double()
        return np.asarray(right.where(logits.isfinite().all(1), torch.nan))

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate:
        """Return the share of rows (N,) that are 1: of images that are recognized."""
        return share_estimate(rows)


class _Features(_Judged):
    better = "lower"
    bounds = (0.0, math.inf)

    def rows(self, chunk: Chunk) -> Array:
        """Return the judge's features of the images (N, features)."""
        return chunk.features("judge", lambda made: np.asarray(self.judge.features(made.images).double()))


class JudgeFid(_Features):
    """Fréchet distance of the judge's features to those of real images: digits, or drawn scenes."""

    name = "judge-fid"

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate:
        """Return the distance of rows (N, features) to real images."""
        return frechet_estimate(rows, *self.judge.real(), labels)


class JudgeFidFull(_Features):
    """Fréchet distance of the judge's features to those of full precision's images."""

    name = "judge-fid-fp"
    against = "full"

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate:
        """Return the distance of rows (N, features) to `other`, those of full precision's images."""
        assert other is not None
        return frechet_paired(rows, other, labels)
