"""Published denoisers that need no code of their own; see `Published`.

Configs are those of ``transformer/config.json`` in the named repositories, protocols those of their model cards.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from q2.denoisers.base import Protocol
from q2.denoisers.family import Shape
from q2.denoisers.tabled import Published

__all__ = ["FluxDev", "FluxSchnell", "Lumina2", "QwenImage", "SD35Large", "SD35Medium", "Sana", "Wan21", "ZImage"]


class FluxDev(Published):
    """FLUX.1 [dev] at 1024², distilled to take its guidance as an input.

    >>> FluxDev(weights="meta").example_inputs()["hidden_states"].shape
    torch.Size([1, 4096, 64])
    """

    name: ClassVar[str] = "flux"
    model_class: ClassVar[str] = "FluxTransformer2DModel"
    hub: ClassVar[str] = "black-forest-labs/FLUX.1-dev"
    protocol: ClassVar[Protocol] = Protocol(steps=50, guidance=3.5)
    size: ClassVar[int] = 1024
    latent: ClassVar[int] = 64
    tokens: ClassVar[int] = 512
    config: ClassVar[Mapping[str, Any]] = {
        "patch_size": 1,
        "in_channels": 64,
        "num_layers": 19,
        "num_single_layers": 38,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
        "guidance_embeds": True,
        "axes_dims_rope": (16, 56, 56),
    }
    small: ClassVar[Mapping[str, Any]] = {
        "in_channels": 4,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 12,
        "num_attention_heads": 2,
        "joint_attention_dim": 10,
        "pooled_projection_dim": 6,
        "axes_dims_rope": (4, 4, 4),
    }


class FluxSchnell(FluxDev):
    """FLUX.1 [schnell] at 1024², in four steps."""

    name: ClassVar[str] = "flux-schnell"
    hub: ClassVar[str] = "black-forest-labs/FLUX.1-schnell"
    protocol: ClassVar[Protocol] = Protocol(steps=4, guidance=0.0)
    tokens: ClassVar[int] = 256
    config: ClassVar[Mapping[str, Any]] = {**FluxDev.config, "guidance_embeds": False}


class SD35Large(Published):
    """Stable Diffusion 3.5 Large at 1024²."""

    name: ClassVar[str] = "sd35-large"
    model_class: ClassVar[str] = "SD3Transformer2DModel"
    hub: ClassVar[str] = "stabilityai/stable-diffusion-3.5-large"
    protocol: ClassVar[Protocol] = Protocol(steps=28, guidance=3.5)
    size: ClassVar[int] = 1024
    latent: ClassVar[int] = 128
    tokens: ClassVar[int] = 333  # 77 of the CLIPs, 256 of T5
    config: ClassVar[Mapping[str, Any]] = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 38,
        "attention_head_dim": 64,
        "num_attention_heads": 38,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 2432,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
        "dual_attention_layers": (),
        "qk_norm": "rms_norm",
    }
    small: ClassVar[Mapping[str, Any]] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 10,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 6,
        "pos_embed_max_size": 8,
    }


class SD35Medium(SD35Large):
    """Stable Diffusion 3.5 Medium at 1024²: its first 13 blocks attend to the image twice."""

    name: ClassVar[str] = "sd35-medium"
    hub: ClassVar[str] = "stabilityai/stable-diffusion-3.5-medium"
    protocol: ClassVar[Protocol] = Protocol(steps=40, guidance=4.5)
    config: ClassVar[Mapping[str, Any]] = {
        **SD35Large.config,
        "num_layers": 24,
        "num_attention_heads": 24,
        "caption_projection_dim": 1536,
        "pos_embed_max_size": 384,
        "dual_attention_layers": tuple(range(13)),
    }
    small: ClassVar[Mapping[str, Any]] = {**SD35Large.small, "dual_attention_layers": (0,)}


class Sana(Published):
    """Sana 1.6B at 1024²: linear attention over a 32-fold autoencoder's latents."""

    name: ClassVar[str] = "sana"
    model_class: ClassVar[str] = "SanaTransformer2DModel"
    hub: ClassVar[str] = "Efficient-Large-Model/Sana_1600M_1024px_diffusers"
    protocol: ClassVar[Protocol] = Protocol(steps=20, guidance=4.5)
    size: ClassVar[int] = 1024
    latent: ClassVar[int] = 32
    tokens: ClassVar[int] = 300
    config: ClassVar[Mapping[str, Any]] = {
        "in_channels": 32,
        "out_channels": 32,
        "num_attention_heads": 70,
        "attention_head_dim": 32,
        "num_layers": 20,
        "num_cross_attention_heads": 20,
        "cross_attention_head_dim": 112,
        "cross_attention_dim": 2240,
        "caption_channels": 2304,
        "mlp_ratio": 2.5,
        "attention_bias": False,
        "sample_size": 32,
        "patch_size": 1,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "interpolation_scale": None,
    }
    small: ClassVar[Mapping[str, Any]] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 2,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 12,
        "cross_attention_dim": 24,
        "caption_channels": 10,
        "sample_size": 8,
    }


class QwenImage(Published):
    """Qwen-Image at 1328²; its guidance is the pipeline's ``true_cfg_scale``."""

    name: ClassVar[str] = "qwen-image"
    model_class: ClassVar[str] = "QwenImageTransformer2DModel"
    hub: ClassVar[str] = "Qwen/Qwen-Image"
    protocol: ClassVar[Protocol] = Protocol(steps=50, guidance=4.0)
    size: ClassVar[int] = 1328
    latent: ClassVar[int] = 83
    tokens: ClassVar[int] = 512
    config: ClassVar[Mapping[str, Any]] = {
        "patch_size": 2,
        "in_channels": 64,
        "out_channels": 16,
        "num_layers": 60,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 3584,
        "guidance_embeds": False,
        "axes_dims_rope": (16, 56, 56),
    }
    small: ClassVar[Mapping[str, Any]] = {
        "in_channels": 4,
        "out_channels": 1,
        "num_layers": 2,
        "attention_head_dim": 12,
        "num_attention_heads": 2,
        "joint_attention_dim": 10,
        "axes_dims_rope": (4, 4, 4),
    }


class ZImage(Published):
    """Z-Image-Turbo at 1024², in eight steps (nine points of time) without guidance; it takes lists of images.

    >>> [len(each) for each in ZImage(tiny=True).example_inputs(2)["x"]]
    [4, 4]
    """

    name: ClassVar[str] = "z-image"
    model_class: ClassVar[str] = "ZImageTransformer2DModel"
    hub: ClassVar[str] = "Tongyi-MAI/Z-Image-Turbo"
    protocol: ClassVar[Protocol] = Protocol(steps=9, guidance=0.0)
    size: ClassVar[int] = 1024
    latent: ClassVar[int] = 128
    tokens: ClassVar[int] = 512
    config: ClassVar[Mapping[str, Any]] = {
        "all_patch_size": (2,),
        "all_f_patch_size": (1,),
        "in_channels": 16,
        "dim": 3840,
        "n_layers": 30,
        "n_refiner_layers": 2,
        "n_heads": 30,
        "n_kv_heads": 30,
        "norm_eps": 1e-5,
        "qk_norm": True,
        "cap_feat_dim": 2560,
        "rope_theta": 256.0,
        "t_scale": 1000.0,
        "axes_dims": [32, 48, 48],
        "axes_lens": [1536, 512, 512],
    }
    small: ClassVar[Mapping[str, Any]] = {
        "in_channels": 4,
        "dim": 24,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 10,
        "axes_dims": [4, 4, 4],
        "axes_lens": [64, 64, 64],
    }

    def inputs(self, make: Shape, batch: int, side: int, tokens: int) -> Mapping[str, object]:
        """Return lists of latents (C, 1, side, side) and of texts (tokens, D), and times (batch,) from 0 to 1."""
        config: Any = self.model.config
        return {
            "x": [make.noise(config.in_channels, 1, side, side) for _ in range(batch)],
            "t": make.full(0.5, batch, dtype=self.dtype),
            "cap_feats": [make.noise(tokens, config.cap_feat_dim) for _ in range(batch)],
        }


class Lumina2(Published):
    """Lumina-Image 2.0 at 1024²."""

    name: ClassVar[str] = "lumina2"
    model_class: ClassVar[str] = "Lumina2Transformer2DModel"
    hub: ClassVar[str] = "Alpha-VLLM/Lumina-Image-2.0"
    protocol: ClassVar[Protocol] = Protocol(steps=50, guidance=4.0)
    size: ClassVar[int] = 1024
    latent: ClassVar[int] = 128
    tokens: ClassVar[int] = 256
    config: ClassVar[Mapping[str, Any]] = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "hidden_size": 2304,
        "num_layers": 26,
        "num_refiner_layers": 2,
        "num_attention_heads": 24,
        "num_kv_heads": 8,
        "multiple_of": 256,
        "ffn_dim_multiplier": None,
        "norm_eps": 1e-5,
        "scaling_factor": 1.0,
        "axes_dim_rope": (32, 32, 32),
        "axes_lens": (300, 512, 512),
        "cap_feat_dim": 2304,
    }
    small: ClassVar[Mapping[str, Any]] = {
        "sample_size": 8,
        "in_channels": 4,
        "hidden_size": 24,
        "num_layers": 2,
        "num_refiner_layers": 1,
        "num_attention_heads": 2,
        "num_kv_heads": 1,
        "multiple_of": 8,
        "axes_dim_rope": (4, 4, 4),
        "axes_lens": (64, 16, 16),
        "cap_feat_dim": 10,
    }


class Wan21(Published):
    """Wan 2.1 1.3B: videos of 81 frames at 832 × 480, 21 frames of 104 × 60 latents.

    >>> Wan21(weights="meta").example_inputs()["hidden_states"].shape
    torch.Size([1, 16, 21, 60, 104])
    """

    name: ClassVar[str] = "wan21"
    model_class: ClassVar[str] = "WanTransformer3DModel"
    hub: ClassVar[str] = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    protocol: ClassVar[Protocol] = Protocol(steps=50, guidance=5.0)
    size: ClassVar[int] = 480
    latent: ClassVar[int] = 60
    tokens: ClassVar[int] = 512
    config: ClassVar[Mapping[str, Any]] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": 8960,
        "num_layers": 30,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
        "rope_max_seq_len": 1024,
    }
    small: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 10,
        "freq_dim": 16,
        "ffn_dim": 24,
        "num_layers": 2,
        "rope_max_seq_len": 32,
    }

    def inputs(self, make: Shape, batch: int, side: int, tokens: int) -> Mapping[str, object]:
        """Return the derived inputs with latents (batch, C, frames, side, width), width in the protocol's ratio."""
        channels, frames = int(self.model.config.in_channels), 2 if self.tiny else 21  # type: ignore[union-attr, arg-type]
        width = side if self.tiny else side * 104 // 60 // 2 * 2
        video: torch.Tensor = make.noise(batch, channels, frames, side, width)
        return {**super().inputs(make, batch, side, tokens), "hidden_states": video}
