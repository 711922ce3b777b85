"""Stable Diffusion v1.5 (Rombach et al., CVPR'22): a U-Net with cross attention to CLIP."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from q2.denoisers.base import Protocol
from q2.denoisers.family import Inputs, Shape
from q2.denoisers.prompted import Prompted

__all__ = ["StableDiffusion15"]


class StableDiffusion15(Prompted):
    """Stable Diffusion v1.5 at 512².

    >>> StableDiffusion15(weights="meta").example_inputs()["sample"].shape
    torch.Size([1, 4, 64, 64])
    """

    name: ClassVar[str] = "sdv15"
    component: ClassVar[str] = "unet"
    model_class: ClassVar[str] = "UNet2DConditionModel"
    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"
    hub: ClassVar[str] = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    protocol: ClassVar[Protocol] = Protocol(steps=50, guidance=7.5)
    latent: ClassVar[int] = 64
    tokens: ClassVar[int] = 77
    optional: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")
    config: ClassVar[Mapping[str, Any]] = {
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "norm_num_groups": 32,
    }
    small: ClassVar[Mapping[str, Any]] = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (8, 8, 16, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 12,
    }

    def inputs(self, make: Shape, batch: int, size: int, timestep: int, tokens: int) -> Inputs:
        """Return latents (batch, C, size, size), one timestep (), and text (batch, tokens, D)."""
        config: Any = self.model.config
        return {
            "sample": make.noise(batch, config.in_channels, size, size),
            "timestep": make.full(timestep),
            "encoder_hidden_states": make.noise(batch, tokens, config.cross_attention_dim),
        }

    def parts(self) -> Mapping[str, Any]:
        """Return an autoencoder and the PLMS scheduler."""
        from diffusers import PNDMScheduler

        scheduler = PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        )
        return {"vae": self.autoencoder(), "scheduler": scheduler, "requires_safety_checker": False}

    def embeddings(self, images: range) -> Mapping[str, Any]:
        """Return embeddings of 77 tokens."""
        config: Any = self.model.config
        text = self.drawn(images, self.tokens, config.cross_attention_dim)
        return {"prompt_embeds": text, "negative_prompt_embeds": torch.zeros_like(text)}
