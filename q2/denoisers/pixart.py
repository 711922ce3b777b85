"""PixArt-α (Chen et al., ICLR'24) and PixArt-Σ (Chen et al., ECCV'24): transformers with cross attention to T5."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from q2.denoisers.base import Protocol
from q2.denoisers.family import Inputs, Shape
from q2.denoisers.prompted import Prompted

__all__ = ["PixArtAlpha", "PixArtSigma"]


class PixArtAlpha(Prompted):
    """PixArt-α at 512².

    >>> len(PixArtAlpha(weights="meta").example_inputs()["encoder_hidden_states"][0])
    120
    """

    name: ClassVar[str] = "pixart-alpha"
    component: ClassVar[str] = "transformer"
    model_class: ClassVar[str] = "PixArtTransformer2DModel"
    pipeline_class: ClassVar[str] = "PixArtAlphaPipeline"
    hub: ClassVar[str] = "PixArt-alpha/PixArt-XL-2-512x512"
    protocol: ClassVar[Protocol] = Protocol(steps=20, guidance=4.5)
    latent: ClassVar[int] = 64
    tokens: ClassVar[int] = 120
    optional: ClassVar[tuple[str, ...]] = ("tokenizer", "text_encoder")
    asked: ClassVar[Mapping[str, Any]] = {"use_resolution_binning": False}
    config: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 28,
        "cross_attention_dim": 1152,
        "attention_bias": True,
        "sample_size": 64,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000,
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "caption_channels": 4096,
        "use_additional_conditions": False,
    }
    small: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 2,
        "cross_attention_dim": 24,
        "caption_channels": 16,
        "sample_size": 8,
    }

    def inputs(self, make: Shape, batch: int, size: int, timestep: int, tokens: int) -> Inputs:
        """Return latents (batch, C, size, size), text (batch, tokens, D) with its mask, and timesteps (batch,)."""
        config: Any = self.model.config
        return {
            "hidden_states": make.noise(batch, config.in_channels, size, size),
            "encoder_hidden_states": make.noise(batch, tokens, config.caption_channels),
            "timestep": make.full(timestep, batch),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
            "encoder_attention_mask": make.mask(batch, tokens, self.dtype),
        }

    def parts(self) -> Mapping[str, Any]:
        """Return an autoencoder and the scheduler."""
        from diffusers import DPMSolverMultistepScheduler

        return {"vae": self.autoencoder(), "scheduler": DPMSolverMultistepScheduler()}

    def embeddings(self, images: range) -> Mapping[str, Any]:
        """Return embeddings and masks of `tokens` tokens."""
        config: Any = self.model.config
        text = self.drawn(images, self.tokens, config.caption_channels)
        mask = torch.ones(text.shape[:2], device=self.device)
        return {
            "prompt_embeds": text,
            "prompt_attention_mask": mask,
            "negative_prompt_embeds": torch.zeros_like(text),
            "negative_prompt_attention_mask": mask,
            "negative_prompt": None,
        }


class PixArtSigma(PixArtAlpha):
    """PixArt-Σ at 1024².

    >>> PixArtSigma.config["interpolation_scale"]
    2
    """

    name: ClassVar[str] = "pixart-sigma"
    pipeline_class: ClassVar[str] = "PixArtSigmaPipeline"
    hub: ClassVar[str] = "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"
    latent: ClassVar[int] = 128
    tokens: ClassVar[int] = 300
    config: ClassVar[Mapping[str, Any]] = {**PixArtAlpha.config, "sample_size": 128, "interpolation_scale": 2}
    small: ClassVar[Mapping[str, Any]] = {**PixArtAlpha.small, "sample_size": 16}
