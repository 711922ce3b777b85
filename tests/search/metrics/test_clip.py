"""CLIP's metrics, with a small random CLIP saved as a folder, as `from_pretrained` reads it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import q2
from q2.denoisers import Samples
from q2.errors import ConfigError
from q2.search.metrics.base import Chunk
from q2.search.metrics.clip import ClipScore, Cmmd
from q2.search.metrics.contract import estimate_of
from q2.settings import EvaluationSettings

TOKENIZER = Path(q2.__file__).parent / "denoisers" / "assets" / "digits-sdxl" / "tokenizer"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length}
    torch.manual_seed(0)
    vision = {**small, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    side = {"height": 32, "width": 32}
    CLIPProcessor(CLIPImageProcessor(size=side, crop_size=side), tokenizer).save_pretrained(folder)
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
