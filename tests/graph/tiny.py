"""The six denoisers of the paper's tables: published constructor arguments, tiny variants of them, and inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers import DiTTransformer2DModel, HunyuanDiT2DModel, PixArtTransformer2DModel, UNet2DConditionModel
from torch import nn

Inputs = dict[str, Any]

_PIXART: dict[str, Any] = {
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
}
_UNET: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
_TINY_PIXART: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "cross_attention_dim": 24,
    "caption_channels": 16,
}


@dataclass(frozen=True)
class Family:
    """A denoiser at its published size and at a tiny one; `latent` and `text` are those of the design's table."""

    model_class: Any
    full: dict[str, Any]
    tiny: dict[str, Any]
    latent: int
    text: int
    inputs: Callable[["Request"], Inputs]
    table: tuple[int, int, float]  # weight layers, weights in them, GMACs at batch 1

    def build(self, *, full: bool = False, device: str = "cpu", seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        with torch.device(device):
            model = self.model_class(**(self.full if full else {**self.full, **self.tiny}))
        return cast("nn.Module", model.eval().requires_grad_(False))

    def example(
        self,
        *,
        full: bool = False,
        device: str = "cpu",
        batch: int = 1,
        size: int | None = None,
        timestep: int = 500,
        text: int | None = None,
    ) -> Inputs:
        config = self.full if full else {**self.full, **self.tiny}
        size = size or (self.latent if full else config["sample_size"])
        text = text or (self.text if full else 9)
        return self.inputs(Request(config, device, batch, size, timestep, text))


@dataclass(frozen=True)
class Request:
    config: dict[str, Any]
    device: str
    batch: int
    size: int
    timestep: int
    text: int

    def noise(self, *shape: int) -> torch.Tensor:
        seed = torch.Generator().manual_seed(sum(shape))
        return torch.empty(shape, device="meta") if self.device == "meta" else torch.randn(shape, generator=seed)

    def steps(self, *shape: int) -> torch.Tensor:
        return torch.full(shape, self.timestep, dtype=torch.long, device=self.device)

    def mask(self, length: int, dtype: torch.dtype) -> torch.Tensor:
        mask = torch.ones(self.batch, length, dtype=dtype, device=self.device)
        if self.device != "meta":
            mask[:, length // 2 :] = 0
        return mask

    @property
    def latents(self) -> torch.Tensor:
        return self.noise(self.batch, 4, self.size, self.size)


def _dit(r: Request) -> Inputs:
    labels = torch.arange(r.batch, device=r.device) % cast("int", r.config["num_embeds_ada_norm"])
    return {"hidden_states": r.latents, "timestep": r.steps(r.batch), "class_labels": labels}


def _pixart(r: Request) -> Inputs:
    return {
        "hidden_states": r.latents,
        "encoder_hidden_states": r.noise(r.batch, r.text, r.config["caption_channels"]),
        "timestep": r.steps(r.batch),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        "encoder_attention_mask": r.mask(r.text, torch.float32),
    }


def _hunyuan(r: Request) -> Inputs:
    patches, head = (r.size // 2) ** 2, r.config["attention_head_dim"]
    clip, t5 = r.config["text_len"], r.config["text_len_t5"]
    return {
        "hidden_states": r.latents,
        "timestep": r.steps(r.batch).float(),
        "encoder_hidden_states": r.noise(r.batch, clip, r.config["cross_attention_dim"]),
        "text_embedding_mask": r.mask(clip, torch.long),
        "encoder_hidden_states_t5": r.noise(r.batch, t5, r.config["cross_attention_dim_t5"]),
        "text_embedding_mask_t5": r.mask(t5, torch.long),
        "image_meta_size": r.noise(r.batch, 6),
        "style": torch.zeros(r.batch, dtype=torch.long, device=r.device),
        "image_rotary_emb": (r.noise(patches, head), r.noise(patches, head)),
    }


def _unet(r: Request) -> Inputs:
    text = r.noise(r.batch, r.text, r.config["cross_attention_dim"])
    return {"sample": r.latents, "timestep": r.steps(), "encoder_hidden_states": text}


def _sdxl(r: Request) -> Inputs:
    pooled = r.config["projection_class_embeddings_input_dim"] - 6 * r.config["addition_time_embed_dim"]
    added = {"text_embeds": r.noise(r.batch, pooled), "time_ids": r.noise(r.batch, 6)}
    return {**_unet(r), "added_cond_kwargs": added}


FAMILIES = {
    "dit": Family(
        DiTTransformer2DModel,
        {
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 28,
            "attention_bias": True,
            "sample_size": 32,
            "patch_size": 2,
            "activation_fn": "gelu-approximate",
            "num_embeds_ada_norm": 1000,
            "norm_type": "ada_norm_zero",
            "norm_elementwise_affine": False,
            "norm_num_groups": 32,
        },
        {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 2,
            "sample_size": 8,
            "num_embeds_ada_norm": 10,
        },
        32,
        0,
        _dit,
        (255, 716_986_368, 118.67),
    ),
    "pixart-alpha": Family(
        PixArtTransformer2DModel,
        _PIXART,
        {**_TINY_PIXART, "sample_size": 8},
        64,
        120,
        _pixart,
        (287, 610_228_224, 617.99),
    ),
    "pixart-sigma": Family(
        PixArtTransformer2DModel,
        {**_PIXART, "sample_size": 128, "interpolation_scale": 2, "use_additional_conditions": False},
        {**_TINY_PIXART, "sample_size": 16},
        128,
        300,
        _pixart,
        (287, 610_228_224, 3316.79),
    ),
    "hunyuan": Family(
        HunyuanDiT2DModel,
        {
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
        },
        {
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
        },
        128,
        0,
        _hunyuan,
        (468, 1_499_645_952, 7180.75),
    ),
    "sdxl": Family(
        UNet2DConditionModel,
        {
            **_UNET,
            "sample_size": 128,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "block_out_channels": (320, 640, 1280),
            "cross_attention_dim": 2048,
            "transformer_layers_per_block": [1, 2, 10],
            "attention_head_dim": [5, 10, 20],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        {
            "sample_size": 8,
            "layers_per_block": 1,
            "block_out_channels": (8, 16, 16),
            "norm_num_groups": 4,
            "transformer_layers_per_block": [1, 1, 2],
            "attention_head_dim": [1, 2, 2],
            "cross_attention_dim": 12,
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 64,
        },
        64,
        77,
        _sdxl,
        (794, 2_565_880_320, 794.39),
    ),
    "sdv15": Family(
        UNet2DConditionModel,
        {
            **_UNET,
            "sample_size": 64,
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            "block_out_channels": (320, 640, 1280, 1280),
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        {
            "sample_size": 8,
            "layers_per_block": 1,
            "block_out_channels": (8, 8, 16, 16),
            "norm_num_groups": 4,
            "attention_head_dim": 2,
            "cross_attention_dim": 12,
        },
        64,
        77,
        _unet,
        (282, 859_077_120, 401.64),
    ),
}
