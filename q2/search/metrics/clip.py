"""Metrics of CLIP: the distance of image embeddings to real images' (CMMD), and how well images fit their prompts."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from q2.denoisers import Denoiser, Samples
from q2.errors import ConfigError
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.search.metrics.folder import pictures
from q2.search.metrics.intervals import Estimate, Labels
from q2.search.metrics.kernel import cmmd_estimate
from q2.settings import EvaluationSettings

__all__ = ["ClipScore", "Cmmd"]


@dataclass(frozen=True, eq=False)
class _Clip:
    """CLIP with its processor."""

    model: Any
    processor: Any

    def images(self, samples: Samples) -> Array:
        """Return an embedding (N, D) of each image, of length 1."""
        pixels = list((samples.images.expand(-1, 3, -1, -1) * 255).round().byte())
        inputs = self.processor(images=pixels, return_tensors="pt").to(self.model.device)
        return _unit(_tensor(self.model.get_image_features(**inputs)))

    def texts(self, texts: list[str]) -> Array:
        """Return an embedding (N, D) of each text, of length 1."""
        inputs = self.processor(text=texts, return_tensors="pt", padding=True, truncation=True).to(self.model.device)
        return _unit(_tensor(self.model.get_text_features(**inputs)))


class _OfClip(ImageMetric):
    @classmethod
    def check(cls, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        """Raise `ConfigError` where CLIP is not named, or the real images are missing."""
        if not settings.clip:
            raise ConfigError(f"{cls.name}: needs search.evaluation.clip, a CLIP model's folder or Hub id")
        if cls.against == "real":
            pictures(settings.reference)

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        self.check(denoiser, settings)
        self.clip = _loaded(settings.clip, str(denoiser.device))

    def embeddings(self, chunk: Chunk) -> Array:
        """Return the embeddings of the images (N, dimensions)."""
        return chunk.features("clip", self.clip.images)


class Cmmd(_OfClip):
    """Kernel distance of CLIP's image embeddings to those of real images, times 1000 (Jayasumana et al., CVPR'24)."""

    name = "CMMD"
    better = "lower"
    against = "real"
    bounds = (0.0, math.inf)

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        super().__init__(denoiser, settings)
        _ = pictures(settings.reference)

    def rows(self, chunk: Chunk) -> Array:
        """Return the embeddings of the images (N, dimensions)."""
        return self.embeddings(chunk)

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate:
        """Return the distance of embeddings (N, dimensions) to `other`, those of the folder's images."""
        assert other is not None
        return cmmd_estimate(rows, other, labels)


class ClipScore(_OfClip):
    """Cosine of image and prompt embeddings, times 100, not below 0 (Hessel et al., EMNLP'21).

    Raises `ConfigError` for a denoiser without prompts.
    """

    name = "CLIP-score"
    better = "higher"
    bounds = (0.0, 100.0)

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        super().__init__(denoiser, settings)
        self.prompts = [str(text) for text in getattr(denoiser, "prompts", ())]
        if not self.prompts:
            raise ConfigError(f"{self.name}: {denoiser.label} draws classes, and has no prompts")
        self.embedded = self.clip.texts(self.prompts)

    def rows(self, chunk: Chunk) -> Array:
        """Return the scores of the images (N,)."""
        wanted = self.embedded[chunk.made.image_labels.numpy() % len(self.prompts)]
        return np.asarray(100 * np.maximum((self.embeddings(chunk) * wanted).sum(1), 0))


@lru_cache(maxsize=1)
def _loaded(where: str, device: str) -> _Clip:
    from transformers import CLIPModel, CLIPProcessor

    try:
        model: Any = CLIPModel.from_pretrained(where).eval().requires_grad_(False)
        return _Clip(model.to(device), CLIPProcessor.from_pretrained(where))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().split("\n")[0][:120]
        raise ConfigError(f"search.evaluation.clip: {where!r}: no CLIP model: {reason}") from error


def _tensor(found: Any) -> torch.Tensor:
    """Return the projected embeddings, which newer versions wrap."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def _unit(rows: torch.Tensor) -> Array:
    plain = np.asarray(rows.double().cpu())
    return np.asarray(plain / np.linalg.norm(plain, axis=1, keepdims=True))
