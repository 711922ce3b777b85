# ruff: noqa: N802 (each is named after its pipeline)
"""Tiny pipelines with U-Nets."""

from typing import Any

import diffusers as d

from tests.denoisers.pipelines import parts
from tests.denoisers.pipelines.parts import WIDTH
from tests.denoisers.pipelines.tiny import IMAGE, denoiser, tiny


def unet(**more: Any) -> Any:
    plain = {"addition_embed_type": None, "addition_time_embed_dim": None, "cross_attention_dim": WIDTH}
    return denoiser("UNet2DConditionModel", **{**plain, "projection_class_embeddings_input_dim": None, **more})


def sd_parts() -> dict[str, Any]:
    return {
        "vae": parts.kl(), "text_encoder": parts.clip(), "tokenizer": parts.clip_tokenizer(),
        "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
    }  # fmt: skip


def ddim() -> Any:
    return d.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)


