"""Hunyuan-DiT v1.1 (Li et al., 2024): a transformer with long skips and cross attention to CLIP and T5."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from q2.denoisers.base import Protocol
from q2.denoisers.family import Inputs, Shape
from q2.denoisers.prompted import Prompted

__all__ = ["Hunyuan"]


class Hunyuan(Prompted):
    """Hunyuan-DiT v1.1 at 1024²; its text lengths are fixed by the model.

    >>> tuple(Hunyuan(tiny=True).example_inputs()["encoder_hidden_states_t5"].shape)
    (1, 7, 16)
    """

    name: ClassVar[str] = "hunyuan"
    component: ClassVar[str] = "transformer"
    model_class: ClassVar[str] = "HunyuanDiT2DModel"
    pipeline_class: ClassVar[str] = "HunyuanDiTPipeline"
    hub: ClassVar[str] = "Tencent-Hunyuan/HunyuanDiT-v1.1-Diffusers"
    protocol: ClassVar[Protocol] = Protocol(steps=50, guidance=5.0)
    latent: ClassVar[int] = 128
    optional: ClassVar[tuple[str, ...]] = (
        "text_encoder",
        "tokenizer",
        "text_encoder_2",
        "tokenizer_2",
        "safety_checker",
        "feature_extractor",
    )
    asked: ClassVar[Mapping[str, Any]] = {"use_resolution_binning": False}
    config: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 16,
        "attention_head_dim": 88,
        "in_channels": 4,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "sample_size": 128,
        "hidden_size": 1408,
        "num_layers": 40,
        "mlp_ratio": 4.3637,
        "learn_sigma": True,
        "cross_attention_dim": 1024,
        "cross_attention_dim_t5": 2048,
        "pooled_projection_dim": 1024,
        "text_len": 77,
        "text_len_t5": 256,
        "norm_type": "layer_norm",
        "use_style_cond_and_image_meta_size": True,
    }
    small: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "hidden_size": 16,
        "num_layers": 4,
        "sample_size": 16,
        "cross_attention_dim": 16,
        "cross_attention_dim_t5": 16,
        "pooled_projection_dim": 16,
        "text_len": 5,
        "text_len_t5": 7,
    }

    def inputs(self, make: Shape, batch: int, size: int, timestep: int, tokens: int) -> Inputs:
        """Return latents (batch, C, size, size), both texts with masks, sizes, style, rotary tables (patches, D)."""
        config: Any = self.model.config
        patches, head = (size // config.patch_size) ** 2, config.attention_head_dim
        return {
            "hidden_states": make.noise(batch, config.in_channels, size, size),
            "timestep": make.full(timestep, batch, dtype=self.dtype),
            "encoder_hidden_states": make.noise(batch, config.text_len, config.cross_attention_dim),
            "text_embedding_mask": make.mask(batch, config.text_len, torch.long),
            "encoder_hidden_states_t5": make.noise(batch, config.text_len_t5, config.cross_attention_dim_t5),
            "text_embedding_mask_t5": make.mask(batch, config.text_len_t5, torch.long),
            "image_meta_size": make.noise(batch, 6),
            "style": make.full(0, batch),
            "image_rotary_emb": (make.noise(patches, head).float(), make.noise(patches, head).float()),
        }

    def parts(self) -> Mapping[str, Any]:
        """Return an autoencoder and the scheduler."""
        from diffusers import DDPMScheduler

        scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_end=0.03, prediction_type="v_prediction")
        return {"vae": self.autoencoder(), "scheduler": scheduler, "requires_safety_checker": False}

    def embeddings(self, images: range) -> Mapping[str, Any]:
        """Return embeddings and masks of both text encoders."""
        config: Any = self.model.config
        made: dict[str, Any] = {}
        for end, length, width in (
            ("", config.text_len, config.cross_attention_dim),
            ("_2", config.text_len_t5, config.cross_attention_dim_t5),
        ):
            text = self.drawn(images, length, width)
            mask = torch.ones(text.shape[:2], dtype=torch.long, device=self.device)
            made |= {f"prompt_embeds{end}": text, f"negative_prompt_embeds{end}": torch.zeros_like(text)}
            made |= {f"prompt_attention_mask{end}": mask, f"negative_prompt_attention_mask{end}": mask}
        return made
