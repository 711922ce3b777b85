"""SDXL (Podell et al., ICLR'24): a U-Net with cross attention to two CLIPs, conditioned on pooled text and sizes."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import torch

from q2.denoisers.base import Protocol
from q2.denoisers.family import Inputs, Shape
from q2.denoisers.sdv15 import StableDiffusion15
from q2.denoisers.silence_libraries import quiet
from q2.errors import ConfigError

__all__ = ["REFINE_FROM", "SDXL"]

REFINE_FROM = 0.8
"""The share of the denoising steps after which a refiner takes over."""


class SDXL(StableDiffusion15):
    """SDXL base 1.0 at 512².

    >>> sorted(SDXL(tiny=True).example_inputs()["added_cond_kwargs"])
    ['text_embeds', 'time_ids']
    """

    name: ClassVar[str] = "sdxl"
    pipeline_class: ClassVar[str] = "StableDiffusionXLPipeline"
    hub: ClassVar[str] = "stabilityai/stable-diffusion-xl-base-1.0"
    protocol: ClassVar[Protocol] = Protocol(steps=40, guidance=5.0)
    refinable: ClassVar[bool] = True
    optional: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    config: ClassVar[Mapping[str, Any]] = {
        **StableDiffusion15.config,
        "sample_size": 128,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "cross_attention_dim": 2048,
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    }
    small: ClassVar[Mapping[str, Any]] = {
        **StableDiffusion15.small,
        "block_out_channels": (8, 16, 16),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 2, 2),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    }

    @property
    def pooled(self) -> int:
        """Width of the pooled text embedding: what the six size numbers leave of the projection's input."""
        config: Any = self.model.config
        return int(config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim)

    def inputs(self, make: Shape, batch: int, size: int, timestep: int, tokens: int) -> Inputs:
        """Return those of Stable Diffusion with pooled text (batch, P) and sizes (batch, 6)."""
        added = {"text_embeds": make.noise(batch, self.pooled), "time_ids": make.noise(batch, 6)}
        return {**super().inputs(make, batch, size, timestep, tokens), "added_cond_kwargs": added}

    def parts(self) -> Mapping[str, Any]:
        """Return an autoencoder and the Euler scheduler."""
        from diffusers import EulerDiscreteScheduler

        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        )
        return {"vae": self.autoencoder(), "scheduler": scheduler, "add_watermarker": False}

    def draw(
        self, conditions: Mapping[str, Any], generators: list[torch.Generator], *, steps: int, guidance: float
    ) -> Any:
        """Return the images; a refiner takes over for the last fifth of the steps, as published (Podell et al.).

        Raises `ConfigError` for a refiner without a text encoder.
        """
        if self.refiner is None:
            return super().draw(conditions, generators, steps=steps, guidance=guidance)
        if "prompt" not in conditions:
            raise ConfigError(f"{self.name}: a refiner reads prompts, and there is no text encoder here")
        numbers = {"generator": generators, "num_inference_steps": steps, "guidance_scale": guidance}
        latents = self.pipeline()(**conditions, **numbers, denoising_end=REFINE_FROM, output_type="latent").images
        return self.refining(
            prompt=conditions["prompt"], image=latents, denoising_start=REFINE_FROM, output_type="np", **numbers
        )

    @cached_property
    def refining(self) -> Any:
        """The refiner's pipeline, at full precision; it shares the autoencoder and the second text encoder."""
        from diffusers import StableDiffusionXLImg2ImgPipeline

        assert self.refiner is not None
        base = self.pipeline()
        shared = {name: getattr(base, name) for name in ("vae", "text_encoder_2", "tokenizer_2")}
        options = {**self.refiner.options("unet"), **shared}
        with quiet(), self.refiner.reading() as where:
            pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(
                where, dtype=self.dtype, use_safetensors=True, **options
            )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self.device)

    def embeddings(self, images: range) -> Mapping[str, Any]:
        """Return embeddings of 77 tokens, and pooled ones."""
        pooled = self.drawn(images, self.pooled)
        return {
            **super().embeddings(images),
            "pooled_prompt_embeds": pooled,
            "negative_pooled_prompt_embeds": torch.zeros_like(pooled),
        }
