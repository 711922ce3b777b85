"""SDXL's refiner finishes the images, from a folder made here as the published one is."""

from pathlib import Path

import pytest
import torch

import q2
from q2.denoisers import Ask, Denoiser
from q2.errors import CheckpointError, ConfigError


@pytest.fixture(scope="module")
def refiner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A refiner: a U-Net that reads the second text encoder alone, and an aesthetic score in the place of a size."""
    from diffusers import StableDiffusionXLImg2ImgPipeline, UNet2DConditionModel

    base = q2.denoiser("digits-sdxl").pipeline()
    config = dict(base.unet.config)
    time, pooled = config["addition_time_embed_dim"], base.text_encoder_2.config.projection_dim
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config(
        {
            **config,
            "cross_attention_dim": base.text_encoder_2.config.hidden_size,
            "projection_class_embeddings_input_dim": pooled + 5 * time,
        }
    )
    parts = {name: getattr(base, name) for name in ("vae", "text_encoder_2", "tokenizer_2", "scheduler")}
    pipeline = StableDiffusionXLImg2ImgPipeline(
        **parts, unet=unet, text_encoder=None, tokenizer=None, requires_aesthetics_score=True, add_watermarker=False
    )
    folder = tmp_path_factory.mktemp("refiner")
    pipeline.save_pretrained(folder)
    return folder


def drawn(denoiser: Denoiser, batch: int = 2) -> torch.Tensor:
    return denoiser.generate(2, steps=5, batch=batch).images


def test_the_refiner_makes_the_last_steps_and_nothing_else_changes(refiner: Path) -> None:
    plain, refined = q2.denoiser("digits-sdxl"), q2.denoiser("digits-sdxl", refiner=str(refiner))
    images = drawn(refined)
    assert images.shape == drawn(plain).shape
    assert not torch.equal(images, drawn(plain))
    assert refined.generate(2, steps=5).latents.shape == (2, 4, 8, 8)
    assert refined.fingerprint == plain.fingerprint
    torch.testing.assert_close(drawn(refined, batch=1), images, rtol=0, atol=1e-4)


def test_a_refiner_shares_the_autoencoder_and_stays_at_full_precision(refiner: Path) -> None:
    denoiser = q2.denoiser("digits-sdxl", refiner=str(refiner))
    _ = drawn(denoiser)
    refining = denoiser.refining  # type: ignore[attr-defined]
    assert refining.vae is denoiser.pipeline().vae
    assert refining.unet is not denoiser.model


def test_what_takes_no_refiner_says_so(refiner: Path) -> None:
    with pytest.raises(ConfigError, match="digits-dit takes none"):
        q2.denoiser("digits-dit", refiner=str(refiner))
    with pytest.raises(CheckpointError, match="no such folder"):
        q2.denoiser("digits-sdxl", refiner="/nowhere/refiner")
    with pytest.raises(ConfigError, match="a refiner reads prompts"):
        q2.denoiser("sdxl", tiny=True, refiner=str(refiner)).generate(1, steps=2, ask=Ask())
