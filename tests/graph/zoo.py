"""Every denoiser class of diffusers at a tiny size: constructor arguments, and inputs where none can be derived."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from diffusers.models import transformers, unets
from torch import nn

from q2.denoisers.derive import example_inputs
from tests.graph import zoo_inputs as given

Config = dict[str, Any]
Inputs = dict[str, Any]

LEFT_OUT = {
    "DualTransformer2DModel": "a part of U-Nets",
    "MotionAdapter": "weights for UNetMotionModel; it has no forward",
    "MiniMaxMusic3RVQDepthDecoder": "predicts audio tokens one after another",
}


@dataclass(frozen=True)
class Entry:
    """One class: its tiny config, and a function that gives inputs for a batch where the config does not tell them."""

    config: Config
    inputs: Callable[[nn.Module, int], Inputs] | None = None
    size: int = 8
    name: str = ""

    def build(self, name: str, device: str = "cpu") -> nn.Module:
        """Make the model with seeded weights, none of them zero."""
        torch.manual_seed(0)
        with torch.device(device):
            model = model_class(self.name or name)(**self.config)
        if device == "cpu":
            _fill(model)
        return cast("nn.Module", model.eval().requires_grad_(False))

    def example(self, model: nn.Module, batch: int) -> Inputs:
        """Return inputs for a batch: derived, or given here."""
        return self.inputs(model, batch) if self.inputs else example_inputs(model, batch, size=self.size)


def model_class(name: str) -> Any:
    return getattr(transformers, name, None) or getattr(unets, name)


def exported() -> list[str]:
    """Names of every model class that diffusers exports as a transformer or a U-Net."""
    found = {
        name: value
        for module in (transformers, unets)
        for name in dir(module)
        if isinstance(value := getattr(module, name), type) and issubclass(value, nn.Module)
    }
    return sorted(found)


def _fill(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.is_floating_point():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            scale = 0.2 if parameter.ndim < 2 else (parameter.shape[0] / max(1, parameter.numel())) ** 0.5
            base = 1.0 if parameter.ndim < 2 and bool((parameter == 1).all()) else 0.0
            parameter.data.copy_(base + scale * noise)


_HEADS: Config = {"num_attention_heads": 2, "attention_head_dim": 8}
_FLUX: Config = {
    "in_channels": 4,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 12,
    "num_attention_heads": 2,
    "joint_attention_dim": 10,
    "axes_dims_rope": (4, 4, 4),
}
_WAN: Config = {
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
_HUNYUAN: Config = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 1,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": 10,
    "rope_axes_dim": (4, 4, 4),
}
_COG: Config = {
    **_HEADS,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 6,
    "text_embed_dim": 10,
    "num_layers": 2,
}
_LTX2: Config = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "cross_attention_dim": 24,
    "audio_in_channels": 4,
    "audio_out_channels": 4,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 12,
    "audio_cross_attention_dim": 24,
    "num_layers": 1,
    "caption_channels": 10,
}
_UNET: Config = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
_UNET_3D: Config = {
    **_UNET,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    "cross_attention_dim": 10,
    "attention_head_dim": 4,
}
_SANA: Config = {
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
_PIXART: Config = {**_HEADS, "num_layers": 2, "cross_attention_dim": 16, "caption_channels": 10, "sample_size": 8}
_K6_SR: Config = {
    "in_visual_dim": 4,
    "out_visual_dim": 4,
    "time_dim": 8,
    "model_dim": 24,
    "ff_dim": 32,
    "num_visual_blocks": 1,
    "axes_dims": (4, 4, 4),
}

ZOO: dict[str, Entry] = {
    "AceStepTransformer1DModel": Entry(
        {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "in_channels": 12,
            "audio_acoustic_hidden_dim": 4,
            "sliding_window": 4,
        },
        size=12,
    ),
    "AllegroTransformer3DModel": Entry(
        {
            **_HEADS,
            "num_layers": 2,
            "cross_attention_dim": 16,
            "caption_channels": 10,
            "sample_height": 8,
            "sample_width": 8,
        }
    ),
    "AnyFlowFARTransformer3DModel": Entry({**_WAN, "chunk_partition": (1, 3)}, given.anyflow_far),
    "AnyFlowTransformer3DModel": Entry(_WAN),
    "AuraFlowTransformer2DModel": Entry(
        {
            **_HEADS,
            "sample_size": 8,
            "num_mmdit_layers": 1,
            "num_single_dit_layers": 1,
            "joint_attention_dim": 10,
            "caption_projection_dim": 16,
            "pos_embed_max_size": 64,
        }
    ),
    "BriaFibo2Transformer2DModel": Entry(
        {
            "in_channels": 4,
            "dim": 24,
            "n_layers": 3,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "cap_feat_dim": 12,
            "injection_layer_ids": (0, 2),
            "perceiver_num_layers": 1,
            "min_num_gist_tokens": 4,
            "max_num_gist_tokens": 8,
            "gist_step": 2,
            "gist_min_text_len": 4,
            "gist_max_text_len": 16,
            "axes_dims": (4, 4, 4),
            "axes_lens": (64, 16, 16),
        },
        given.bria_fibo2,
    ),
    "BriaFiboTransformer2DModel": Entry({**_FLUX, "text_encoder_dim": 6}),
    "BriaTransformer2DModel": Entry(_FLUX),
    "ChromaTransformer2DModel": Entry(
        {**_FLUX, "approximator_num_channels": 8, "approximator_hidden_dim": 12, "approximator_layers": 1}
    ),
    "ChronoEditTransformer3DModel": Entry(_WAN),
    "CogVideoXTransformer3DModel": Entry(
        {**_COG, "sample_width": 8, "sample_height": 8, "sample_frames": 9, "use_rotary_positional_embeddings": True}
    ),
    "CogView3PlusTransformer2DModel": Entry(
        {**_COG, "condition_dim": 4, "pos_embed_max_size": 16, "sample_size": 8, "time_embed_dim": 8}
    ),
    "CogView4Transformer2DModel": Entry({**_COG, "condition_dim": 4, "sample_size": 8, "rope_axes_dim": (8, 8)}),
    "ConsisIDTransformer3DModel": Entry(
        {**_COG, "use_rotary_positional_embeddings": True, "sample_width": 8, "sample_height": 8, "sample_frames": 9}
    ),
    "Cosmos3OmniTransformer": Entry(
        {
            "head_dim": 12,
            "hidden_size": 24,
            "intermediate_size": 32,
            "latent_channel": 4,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "num_key_value_heads": 1,
            "patch_latent_dim": 16,
            "vocab_size": 32,
            "rope_axes_dim": (2, 2, 2),
        },
        given.cosmos3,
    ),
    "CosmosTransformer3DModel": Entry(
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "num_layers": 2,
            "text_embed_dim": 10,
            "adaln_lora_dim": 4,
            "max_size": (4, 16, 16),
            "concat_padding_mask": False,
        }
    ),
    "DiTTransformer2DModel": Entry({**_HEADS, "num_layers": 2, "sample_size": 8, "num_embeds_ada_norm": 10}),
    "DreamLiteTransformer2DModel": Entry(
        {**_HEADS, "in_channels": 8, "num_layers": 1, "norm_num_groups": 4, "cross_attention_dim": 10}
    ),
    "DreamLiteUNetModel": Entry(
        {
            "sample_size": 8,
            "block_out_channels": (8, 16, 16),
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "cross_attention_dim": 10,
            "attention_head_dim": 2,
            "ff_mult": 2,
        }
    ),
    "EasyAnimateTransformer3DModel": Entry(
        {**_COG, "patch_size": 2, "sample_width": 8, "sample_height": 8, "mmdit_layers": 1, "attention_head_dim": 16}
    ),
    "ErnieImageTransformer2DModel": Entry(
        {
            "hidden_size": 24,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "text_in_dim": 10,
            "rope_axes_dim": (4, 4, 4),
        }
    ),
    "Flux2Transformer2DModel": Entry(
        {**_FLUX, "axes_dims_rope": (4, 4, 2, 2), "timestep_guidance_channels": 8, "joint_attention_dim": 10}
    ),
    "Flux3Transformer2DModel": Entry(
        {**_FLUX, "axes_dims_rope": (4, 4, 2, 2), "cond_in_channels": 4, "timestep_channels": 8}
    ),
    "FluxTransformer2DModel": Entry({**_FLUX, "pooled_projection_dim": 6, "guidance_embeds": True}),
    "GlmImageTransformer2DModel": Entry(
        {**_COG, "condition_dim": 4, "prior_vq_quantizer_codebook_size": 16, "attention_head_dim": 8}
    ),
    "HeliosTransformer3DModel": Entry(
        {k: v for k, v in _WAN.items() if k != "rope_max_seq_len"} | {"rope_dim": (4, 4, 4)}
    ),
    "HiDreamImageTransformer2DModel": Entry(
        {
            "patch_size": 2,
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 12,
            "num_attention_heads": 2,
            "caption_channels": (10, 6),
            "text_emb_dim": 5,
            "axes_dims_rope": (4, 4, 4),
            "max_resolution": (8, 8),
            "llama_layers": (0, 1),
        },
        given.hidream,
    ),
    "HunyuanDiT2DModel": Entry(
        {
            **_HEADS,
            "in_channels": 4,
            "patch_size": 2,
            "hidden_size": 16,
            "num_layers": 4,
            "sample_size": 8,
            "cross_attention_dim": 16,
            "cross_attention_dim_t5": 16,
            "pooled_projection_dim": 16,
            "text_len": 5,
            "text_len_t5": 7,
        }
    ),
    "HunyuanImageTransformer2DModel": Entry({**_HUNYUAN, "rope_axes_dim": (6, 6)}),
    "HunyuanVideo15Transformer3DModel": Entry(
        {k: v for k, v in _HUNYUAN.items() if k != "num_single_layers"} | {"text_embed_2_dim": 6, "image_embed_dim": 5}
    ),
    "HunyuanVideoFramepackTransformer3DModel": Entry(
        {
            **_HUNYUAN,
            "pooled_projection_dim": 6,
            "has_image_proj": True,
            "image_proj_dim": 5,
            "has_clean_x_embedder": True,
        },
        given.framepack,
    ),
    "HunyuanVideoTransformer3DModel": Entry({**_HUNYUAN, "pooled_projection_dim": 6}),
    "I2VGenXLUNet": Entry({**_UNET_3D, "norm_num_groups": 2}),
    "Ideogram4Transformer2DModel": Entry(
        {
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 12,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "adaln_dim": 8,
            "llm_features_dim": 10,
            "mrope_section": (2, 2, 2),
        },
        given.ideogram,
    ),
    "JoyImageEditPlusTransformer3DModel": Entry(
        {
            "in_channels": 4,
            "hidden_size": 24,
            "num_attention_heads": 2,
            "text_dim": 10,
            "num_layers": 2,
            "rope_dim_list": [4, 4, 4],
        },
        given.joy_plus,
    ),
    "JoyImageEditTransformer3DModel": Entry(
        {
            "in_channels": 4,
            "hidden_size": 24,
            "num_attention_heads": 2,
            "text_dim": 10,
            "num_layers": 2,
            "rope_dim_list": [4, 4, 4],
        }
    ),
}
ZOO |= {
    "Kandinsky3UNet": Entry(
        {
            "time_embedding_dim": 16,
            "groups": 2,
            "attention_head_dim": 4,
            "layers_per_block": 3,
            "block_out_channels": (8, 16),
            "cross_attention_dim": 8,
            "encoder_hid_dim": 10,
        }
    ),
    "StableCascadeUNet": Entry(
        {
            "in_channels": 4,
            "out_channels": 4,
            "timestep_ratio_embedding_dim": 8,
            "conditioning_dim": 12,
            "block_out_channels": (8, 16),
            "num_attention_heads": (2, 2),
            "down_num_layers_per_block": (1, 1),
            "up_num_layers_per_block": (1, 1),
            "clip_text_in_channels": 10,
            "clip_text_pooled_in_channels": 6,
        }
    ),
    "Kandinsky5Transformer3DModel": Entry(
        {
            "in_visual_dim": 4,
            "in_text_dim": 10,
            "in_text_dim2": 6,
            "time_dim": 8,
            "out_visual_dim": 4,
            "model_dim": 24,
            "ff_dim": 32,
            "num_text_blocks": 1,
            "num_visual_blocks": 1,
            "axes_dims": (4, 4, 4),
        }
    ),
    "Kandinsky6SRTransformer3DModel": Entry(_K6_SR),
    "Kandinsky6Transformer3DModel": Entry(
        {**_K6_SR, "in_text_dim": 10, "in_text_dim2": 6, "in_audio_dim": 5, "out_audio_dim": 5, "num_text_blocks": 1}
    ),
    "Krea2Transformer2DModel": Entry(
        {
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 12,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 32,
            "timestep_embed_dim": 8,
            "text_hidden_dim": 10,
            "num_text_layers": 2,
            "text_num_attention_heads": 2,
            "text_num_key_value_heads": 2,
            "text_intermediate_size": 16,
            "num_layerwise_text_blocks": 1,
            "num_refiner_text_blocks": 1,
            "axes_dims_rope": (4, 4, 4),
        },
        given.krea2,
    ),
    "LTX2VideoTransformer3DModel": Entry(_LTX2, size=4),
    "LTXVideoTransformer3DModel": Entry(
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "cross_attention_dim": 24,
            "num_layers": 2,
            "caption_channels": 10,
        },
        size=4,
    ),
    "LatteTransformer3DModel": Entry(
        {
            **_HEADS,
            "in_channels": 4,
            "num_layers": 2,
            "cross_attention_dim": 16,
            "sample_size": 8,
            "patch_size": 2,
            "caption_channels": 10,
            "video_length": 3,
            "activation_fn": "gelu-approximate",
            "num_embeds_ada_norm": 1000,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
        }
    ),
    "LongCatAudioDiTTransformer": Entry(
        {"dit_dim": 16, "dit_depth": 2, "dit_heads": 2, "dit_text_dim": 10, "latent_dim": 4, "ff_mult": 2.0}, size=12
    ),
    "LongCatImageTransformer2DModel": Entry({**_FLUX, "pooled_projection_dim": 6}),
    "Lumina2Transformer2DModel": Entry(
        {
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
    ),
    "LuminaNextDiT2DModel": Entry(
        {
            "sample_size": 8,
            "hidden_size": 16,
            "num_layers": 2,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "multiple_of": 8,
            "cross_attention_dim": 10,
        }
    ),
    "MiniMaxH3Transformer3DModel": Entry(
        {
            "num_attention_heads": 2,
            "attention_head_dim": 12,
            "hidden_size": 24,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "ffn_dim": 32,
            "in_channels": 4,
            "audio_in_channels": 4,
            "text_dim": 10,
            "freq_dim": 8,
            "time_embed_hidden_dim": 24,
            "time_embed_dim": 12,
            "rope_freq_dim": 2,
        },
        given.minimax_h3,
    ),
    "MiniMaxMusic3Transformer1DModel": Entry(
        {
            "in_channels": 4,
            "condition_dim": 10,
            "num_layers": 2,
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "ff_inner_dim": 24,
            "rotary_dim": 4,
            "fourier_embedding_dim": 8,
        },
        size=9,
    ),
    "MochiTransformer3DModel": Entry(
        {
            **_HEADS,
            "num_layers": 2,
            "pooled_projection_dim": 16,
            "in_channels": 4,
            "text_embed_dim": 16,
            "time_embed_dim": 8,
        }
    ),
    "MotifVideoTransformer3DModel": Entry(
        {k: v for k, v in _HUNYUAN.items() if k != "num_refiner_layers"} | {"image_embed_dim": 5}
    ),
    "NucleusMoEImageTransformer2DModel": Entry(
        {
            "in_channels": 4,
            "num_layers": 5,
            "attention_head_dim": 12,
            "num_attention_heads": 2,
            "joint_attention_dim": 10,
            "axes_dims_rope": (4, 4, 4),
            "num_experts": 4,
            "moe_intermediate_dim": 8,
            "capacity_factors": 2.0,
            "out_channels": 1,
        },
        size=4,
    ),
    "OmniGenTransformer2DModel": Entry(
        {
            "hidden_size": 16,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "intermediate_size": 24,
            "num_layers": 2,
            "pad_token_id": 0,
            "vocab_size": 32,
            "pos_embed_max_size": 8,
            "time_step_dim": 8,
            "rope_scaling": {"long_factor": [1.0, 2.0, 3.0, 4.0], "short_factor": [1.0, 1.0, 1.0, 1.0]},
        },
        given.omnigen,
    ),
    "OvisImageTransformer2DModel": Entry({**_FLUX, "out_channels": 4}),
    "PRXTransformer2DModel": Entry(
        {"in_channels": 4, "context_in_dim": 10, "hidden_size": 16, "num_heads": 2, "depth": 2, "axes_dim": [4, 4]}
    ),
    "PixArtTransformer2DModel": Entry(_PIXART),
    "PriorTransformer": Entry(
        {**_HEADS, "num_layers": 2, "embedding_dim": 10, "num_embeddings": 9, "additional_embeddings": 4}
    ),
    "QwenImage21Transformer2DModel": Entry(
        {
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 12,
            "num_attention_heads": 2,
            "context_in_dim": 10,
            "axes_dims_rope": (4, 4, 4),
        },
        given.qwen21,
    ),
    "QwenImageTransformer2DModel": Entry(
        {
            "in_channels": 4,
            "out_channels": 1,
            "num_layers": 2,
            "attention_head_dim": 12,
            "num_attention_heads": 2,
            "joint_attention_dim": 10,
            "axes_dims_rope": (4, 4, 4),
        }
    ),
    "RFD4ProteinaTransformer": Entry(
        {
            "nlayers": 2,
            "token_dim": 16,
            "nheads": 2,
            "dim_cond": 8,
            "pair_repr_dim": 8,
            "latent_dim": 4,
            "token_type_emb_dim": 4,
            "cath_emb_dim": 4,
            "t_emb_dim": 8,
            "seq_sep_dim": 8,
            "xt_pair_dist_dim": 8,
            "feats_seq": ("xt_bb_ca", "xt_local_latents", "token_type"),
            "feats_cond_seq": ("time_emb_bb_ca", "time_emb_local_latents", "recycle_remaining"),
            "feats_pair_repr": ("xt_bb_ca_pair_dists",),
            "tri_mult_c": 8,
        },
        given.proteina,
    ),
    "SD3Transformer2DModel": Entry(
        {
            **_HEADS,
            "sample_size": 8,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "joint_attention_dim": 10,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 6,
            "pos_embed_max_size": 8,
        }
    ),
    "SanaTransformer2DModel": Entry(_SANA),
    "SanaVideoTransformer3DModel": Entry({**_SANA, "rope_max_seq_len": 32}),
    "SanaWMLTX2RefinerTransformer3DModel": Entry(_LTX2, size=4),
    "SanaWMTransformer3DModel": Entry(
        {
            "in_channels": 4,
            "num_layers": 2,
            "hidden_size": 24,
            "num_attention_heads": 2,
            "linear_head_dim": 12,
            "softmax_every_n": 2,
            "caption_channels": 10,
            "chunk_plucker_channels": 6,
            "chunk_plucker_post_attn_blocks": 1,
        },
        given.sana_wm,
    ),
    "SkyReelsV2Transformer3DModel": Entry(_WAN),
    "StableAudio3DiTModel": Entry(
        {
            "io_channels": 4,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 2,
            "cond_token_dim": 10,
            "global_cond_dim": 6,
            "local_add_cond_dim": 5,
            "timestep_features_dim": 8,
            "ff_mult": 2.0,
            "num_memory_tokens": 2,
        },
        size=12,
    ),
    "StableAudioDiTModel": Entry(
        {
            "sample_size": 12,
            "in_channels": 4,
            "out_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 2,
            "num_key_value_attention_heads": 2,
            "cross_attention_dim": 16,
            "time_proj_dim": 8,
            "global_states_input_dim": 6,
            "cross_attention_input_dim": 10,
        },
        size=12,
    ),
    "T5FilmDecoder": Entry(
        {"input_dims": 4, "targets_length": 12, "d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 24},
        size=12,
    ),
    "Transformer2DModel": Entry(
        {**_HEADS, "in_channels": 4, "num_layers": 1, "patch_size": 2, "sample_size": 8, "norm_type": "ada_norm_zero"}
        | {"num_embeds_ada_norm": 10, "norm_elementwise_affine": False, "attention_bias": True}
    ),
    "TransformerTemporalModel": Entry(
        {**_HEADS, "in_channels": 8, "norm_num_groups": 4, "cross_attention_dim": 10}
        | {"double_self_attention": False},
        given.temporal,
    ),
    "UNet1DModel": Entry(
        {
            "sample_size": 16,
            "block_out_channels": (32, 64),
            "down_block_types": ("DownBlock1DNoSkip", "AttnDownBlock1D"),
            "up_block_types": ("AttnUpBlock1D", "UpBlock1DNoSkip"),
            "extra_in_channels": 64,
        },
        size=16,
    ),
    "UNet2DConditionModel": Entry(
        {
            **_UNET,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 10,
            "attention_head_dim": 2,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 32,
        }
    ),
    "UNet2DModel": Entry(
        {
            **_UNET,
            "down_block_types": ("AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
            "attention_head_dim": 4,
        }
    ),
    "UNet3DConditionModel": Entry(_UNET_3D),
    "UNetMotionModel": Entry(
        {
            **_UNET,
            "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
            "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
            "cross_attention_dim": 10,
            "num_attention_heads": 2,
            "motion_num_attention_heads": 2,
        }
    ),
    "UNetSpatioTemporalConditionModel": Entry(
        {
            "sample_size": 8,
            "in_channels": 8,
            "out_channels": 4,
            "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            "block_out_channels": (32, 64),
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 12,
            "layers_per_block": 1,
            "cross_attention_dim": 10,
            "num_attention_heads": 2,
            "num_frames": 3,
        }
    ),
    "UVit2DModel": Entry(
        {
            "hidden_size": 16,
            "cond_embed_dim": 6,
            "micro_cond_encode_dim": 4,
            "micro_cond_embed_dim": 20,
            "encoder_hidden_size": 10,
            "vocab_size": 32,
            "codebook_size": 24,
            "in_channels": 12,
            "block_out_channels": 12,
            "num_res_blocks": 1,
            "block_num_heads": 2,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "sample_size": 8,
        },
        given.uvit,
    ),
    "WanAnimate2Transformer3DModel": Entry(
        {"text_len": 9, "in_dim": 4, "dim": 24, "ffn_dim": 32, "freq_dim": 8, "text_dim": 10, "out_dim": 4}
        | {"num_heads": 2, "num_layers": 2},
        given.wan_animate_2,
    ),
    "WanAnimateTransformer3DModel": Entry(
        {
            **_WAN,
            "in_channels": 12,
            "latent_channels": 4,
            "image_dim": 5,
            "motion_encoder_channel_sizes": {"4": 4, "8": 4, "16": 4},
            "motion_encoder_size": 16,
            "motion_style_dim": 6,
            "motion_dim": 4,
            "motion_encoder_dim": 8,
            "face_encoder_hidden_dim": 8,
            "face_encoder_num_heads": 2,
            "inject_face_latents_blocks": 2,
        },
        given.wan_animate,
    ),
    "WanTransformer3DModel": Entry(_WAN),
    "WanVACETransformer3DModel": Entry({**_WAN, "vace_layers": [0], "vace_in_channels": 6}),
    "ZImageTransformer2DModel": Entry(
        {
            "in_channels": 4,
            "dim": 24,
            "n_layers": 2,
            "n_refiner_layers": 1,
            "n_heads": 2,
            "n_kv_heads": 2,
            "cap_feat_dim": 10,
            "axes_dims": [4, 4, 4],
            "axes_lens": [64, 64, 64],
        },
        given.z_image,
    ),
}
