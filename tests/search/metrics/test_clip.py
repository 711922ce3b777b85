"""CLIP's metrics, with a small random CLIP saved as a folder, as `from_pretrained` reads it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import q2
from q2.denoisers import Denoiser, Samples, load
from q2.errors import ConfigError
from q2.search.metrics.base import Chunk
from q2.search.metrics.clip import ClipScore, Cmmd
from q2.search.metrics.contract import estimate_of
from q2.settings import EvaluationSettings
from tests.search.metrics.small import NetworkSuite, save_clip, save_images


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture(scope="module")
def images() -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.rand(6, 1, 32, 32, generator=generator), torch.arange(6))


def test_a_score_is_the_cosine_with_the_prompt_of_each_image(clip: Path, images: Samples) -> None:
    metric = ClipScore(q2.denoiser("digits-sdxl"), EvaluationSettings(clip=str(clip)))
    rows = metric.rows(Chunk(images, images))
    embedded = metric.clip.images(images)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1)
    cosines = [float(embedded[i] @ metric.clip.texts([metric.prompts[i]])[0]) for i in range(6)]
    np.testing.assert_allclose(rows, 100 * np.maximum(cosines, 0), rtol=1e-3, atol=1e-3)
    assert estimate_of(metric.value(rows, None)).value == pytest.approx(rows.mean())


def test_cmmd_of_a_set_with_itself_is_nothing(clip: Path, images: Samples, tmp_path: Path) -> None:
    from PIL import Image

    for i, image in enumerate(images.images):
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(tmp_path / f"{i}.png")
    metric = Cmmd(q2.denoiser("digits-sdxl"), EvaluationSettings(clip=str(clip), reference=str(tmp_path)))
    rows = metric.rows(Chunk(images, images))
    assert metric.value(rows, rows).value == pytest.approx(0, abs=1e-9)
    assert metric.value(rows, rows[:3]).value > 0


def test_what_is_missing_is_one_line(clip: Path, tmp_path: Path) -> None:
    digits = q2.denoiser("digits-dit")
    with pytest.raises(ConfigError, match=r"CLIP-score: needs search\.evaluation\.clip"):
        ClipScore(digits, EvaluationSettings())
    with pytest.raises(ConfigError, match="CLIP-score: digits-dit draws classes, and has no prompts"):
        ClipScore(digits, EvaluationSettings(clip=str(clip)))
    with pytest.raises(ConfigError, match="no CLIP model"):
        ClipScore(digits, EvaluationSettings(clip=str(tmp_path)))


@pytest.fixture(scope="module")
def networks(clip: Path) -> Path:
    """The folder of the network, with images."""
    save_images(clip / "images")
    return clip


class TestCmmd(NetworkSuite):
    metric = Cmmd


class TestClipScore(NetworkSuite):
    metric = ClipScore

    def denoiser(self) -> Denoiser:
        """One that has prompts."""
        return load("digits-sdxl", device="cpu")

    def images(self, count: int, strength: float, first: int = 0) -> Chunk:
        """Ordinary images; noise pulls each from what the network likes best for its prompt to what it likes least."""
        chunk = super().images(count, 0.0, first)
        best, worst = self.liked()
        labels, share = chunk.made.image_labels % len(best), 2.5 * strength
        made = (0.1 * chunk.full.images + 0.9 * ((1 - share) * best[labels] + share * worst[labels])).clamp(0, 1)
        return Chunk(replace(chunk.made, images=made), chunk.full)

    def liked(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return for every label the best and the worst of some images, by the cosine with its prompt."""
        pool = super().images(64, 0.0, 500).full
        metric = self.made()
        scores = torch.tensor(metric.clip.images(pool) @ metric.embedded[:4].T)
        return pool.images[scores.argmax(0)], pool.images[scores.argmin(0)]
