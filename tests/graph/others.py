"""Denoisers beyond the six, at tiny size: joint attention, linear attention, video, token refiners."""

from collections.abc import Callable
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

Built = tuple[nn.Module, dict[str, Any]]
BATCH, TOKENS = 2, 5


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def sd3() -> Built:
    model = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=3,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=10,
        out_channels=4,
        pos_embed_max_size=8,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    inputs = {
        "hidden_states": _noise(BATCH, 4, 8, 8),
        "encoder_hidden_states": _noise(BATCH, TOKENS, 12),
        "pooled_projections": _noise(BATCH, 10),
        "timestep": torch.tensor([5.0, 7.0]),
    }
    return model, inputs


def flux() -> Built:
    model = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    inputs = {
        "hidden_states": _noise(BATCH, 16, 4),
        "encoder_hidden_states": _noise(BATCH, TOKENS, 12),
        "pooled_projections": _noise(BATCH, 10),
        "timestep": torch.tensor([0.5, 0.7]),
        "img_ids": _noise(16, 3),
        "txt_ids": _noise(TOKENS, 3),
        "guidance": torch.tensor([3.0, 3.0]),
    }
    return model, inputs


def sana() -> Built:
    model = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=12,
        sample_size=8,
        patch_size=1,
    )
    inputs = {
        "hidden_states": _noise(BATCH, 4, 8, 8),
        "encoder_hidden_states": _noise(BATCH, TOKENS, 12),
        "timestep": torch.tensor([5.0, 7.0]),
    }
    return model, inputs


def wan() -> Built:
    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=10,
        freq_dim=8,
        ffn_dim=20,
        num_layers=2,
        rope_max_seq_len=32,
    )
    inputs = {
        "hidden_states": _noise(BATCH, 4, 2, 8, 8),
        "encoder_hidden_states": _noise(BATCH, TOKENS, 10),
        "timestep": torch.tensor([5, 7]),
    }
    return model, inputs


def lumina2() -> Built:
    model = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=4,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(64, 64, 64),
        cap_feat_dim=12,
    )
    mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    mask[1, 3:] = False
    inputs = {
        "hidden_states": _noise(BATCH, 4, 8, 8),
        "encoder_hidden_states": _noise(BATCH, TOKENS, 12),
        "timestep": torch.tensor([0.5, 0.7]),
        "encoder_attention_mask": mask,
    }
    return model, inputs


OTHERS: dict[str, Callable[[], Built]] = {"sd3": sd3, "flux": flux, "sana": sana, "wan": wan, "lumina2": lumina2}
