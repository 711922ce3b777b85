"""Inputs of the denoisers whose config does not tell what they take."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from q2.denoisers.inputs.derive import example_inputs

Inputs = dict[str, Any]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def times(batch: int, value: float = 0.5) -> torch.Tensor:
    return torch.full((batch,), value)


def anyflow_far(model: nn.Module, batch: int) -> Inputs:
    return {
        "hidden_states": noise(batch, 4, 4, 8, 8),
        "timestep": torch.full((batch, 4), 500.0),
        "r_timestep": torch.full((batch, 4), 400.0),
        "encoder_hidden_states": noise(batch, 9, 10),
        "chunk_partition": [1, 3],
    }


def bria_fibo2(model: nn.Module, batch: int) -> Inputs:
    return {
        "hidden_states": noise(batch, 4, 8, 8),
        "timestep": times(batch),
        "encoder_hidden_states": noise(batch, 3, 9, 12),
        "encoder_attention_mask": torch.ones(batch, 9, dtype=torch.bool),
    }


def cosmos3(model: nn.Module, batch: int) -> Inputs:
    """The sequences of a batch are packed one after another; here every image is one more sequence of 4 patches."""
    text, image = 5, 4 * batch
    place = torch.arange(text + image)
    return {
        "input_ids": torch.arange(text),
        "text_indexes": torch.arange(text),
        "position_ids": place.expand(3, -1).contiguous(),
        "und_len": text,
        "sequence_length": text + image,
        "vision_tokens": [noise(1, 4, 1, 4, 4)] * batch,
        "vision_token_shapes": [(1, 2, 2)] * batch,
        "vision_sequence_indexes": place[text:],
        "vision_mse_loss_indexes": place[text:],
        "vision_timesteps": torch.full((image,), 500.0),
        "vision_noisy_frame_indexes": [torch.arange(1)] * batch,
    }


def hidream(model: nn.Module, batch: int) -> Inputs:
    return {
        "hidden_states": noise(batch, 4, 8, 8),
        "timesteps": times(batch, 500),
        "encoder_hidden_states_t5": noise(batch, 5, 10),
        "encoder_hidden_states_llama3": noise(2, batch, 7, 6),
        "pooled_embeds": noise(batch, 5),
    }


def framepack(model: nn.Module, batch: int) -> Inputs:
    return {
        **example_inputs(model, batch, size=8),
        "latents_clean": noise(batch, 4, 2, 8, 8),
        "indices_latents_clean": torch.arange(2),
        "latents_history_2x": noise(batch, 4, 2, 8, 8),
        "indices_latents_history_2x": torch.arange(2),
        "latents_history_4x": noise(batch, 4, 4, 8, 8),
        "indices_latents_history_4x": torch.arange(4),
    }


def ideogram(model: nn.Module, batch: int) -> Inputs:
    text, image = 5, 16
    length = text + image
    kinds = torch.tensor([3] * text + [2] * image)
    return {
        "hidden_states": noise(batch, length, 4),
        "timestep": times(batch),
        "encoder_hidden_states": noise(batch, length, 10),
        "position_ids": torch.arange(length)[:, None].expand(batch, length, 3).contiguous(),
        "segment_ids": torch.ones(batch, length, dtype=torch.long),
        "indicator": kinds.expand(batch, -1).contiguous(),
    }


def joy_plus(model: nn.Module, batch: int) -> Inputs:
    return {
        "hidden_states": noise(batch, 16, 4, 1, 2, 2),
        "timestep": times(batch, 500),
        "encoder_hidden_states": noise(batch, 9, 10),
        "encoder_hidden_states_mask": torch.ones(batch, 9),
        "shape_list": [[(1, 4, 4)]] * batch,
    }


def krea2(model: nn.Module, batch: int) -> Inputs:
    return {
        "hidden_states": noise(batch, 16, 4),
        "timestep": times(batch),
        "encoder_hidden_states": noise(batch, 9, 2, 10),
        "position_ids": torch.arange(25)[:, None].expand(-1, 3).contiguous(),
    }


def minimax_h3(model: nn.Module, batch: int) -> Inputs:
    text, video, audio = 5, 8, 3
    place = torch.arange(text + video + audio)
    return {
        "hidden_states": noise(batch, video, 16),
        "audio_hidden_states": noise(batch, audio, 4),
        "encoder_hidden_states": noise(batch, text, 10),
        "timestep": torch.tensor([0.5, 0.0]),
        "timestep_indices": torch.tensor([1] * text + [0] * (video + audio)),
        "token_tags": torch.tensor([0] * text + [1] * video + [2] * audio),
        "position_ids": place[:, None].expand(-1, 3).contiguous(),
        "video_indices": place[text : text + video],
        "audio_indices": place[text + video :],
        "text_indices": place[:text],
    }


def omnigen(model: nn.Module, batch: int) -> Inputs:
    text, image = 9, 16
    length = text + 1 + image
    return {
        "hidden_states": noise(batch, 4, 8, 8),
        "timestep": times(batch),
        "input_ids": (torch.arange(text) + 1).expand(batch, -1).contiguous(),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": torch.ones(batch, length, length).tril(),
        "position_ids": torch.arange(length).expand(batch, -1).contiguous(),
    }


def proteina(model: nn.Module, batch: int) -> Inputs:
    length = 6
    return {
        "bb_ca": noise(batch, length, 3),
        "local_latents": noise(batch, length, 4),
        "bb_ca_time": times(batch),
        "local_latents_time": times(batch),
        "padding_mask": torch.ones(batch, length, dtype=torch.bool),
        "token_type": torch.zeros(batch, length, dtype=torch.long),
        "conditioning": {
            "is_in_context_conditioning": torch.zeros(batch, length, dtype=torch.bool),
            "supports_local_latent": torch.ones(batch, length, dtype=torch.bool),
        },
    }


def qwen21(model: nn.Module, batch: int) -> Inputs:
    text, side = 6, 4
    slots = torch.tensor([False] * text + [True] * (side * side // 4))
    return {
        "hidden_states": noise(batch, side * side, 4),
        "encoder_hidden_states": noise(batch, text, 10),
        "timestep": times(batch),
        "img_shapes": [[(1, side, side)]] * batch,
        "img_mask": slots.expand(batch, -1).contiguous(),
    }


def wan_animate(model: nn.Module, batch: int) -> Inputs:
    return {
        "hidden_states": noise(batch, 12, 3, 8, 8),
        "timestep": times(batch, 500),
        "encoder_hidden_states": noise(batch, 9, 10),
        "encoder_hidden_states_image": noise(batch, 9, 5),
        "pose_hidden_states": noise(batch, 4, 2, 8, 8),
        "face_pixel_values": noise(batch, 3, 5, 16, 16),
    }


def wan_animate_2(model: nn.Module, batch: int) -> Inputs:
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    return {
        "hidden_states": [noise(2, 1, 4, 4)] * batch,
        "condition_latents": [noise(2, 1, 4, 4)] * batch,
        "timestep": times(batch, 500),
        "encoder_hidden_states": [noise(9, 10)] * batch,
        "kv_cache": WanAnimate2KVCache(2),
        "kv_cache_mode": "extract",
        "seq_len": 4,
        "encoder_hidden_states_image": noise(batch, 9, 1280),
        "offset_grid_sizes": torch.tensor([[1, 2, 2]] * batch),
    }


def z_image(model: nn.Module, batch: int) -> Inputs:
    return {"x": [noise(4, 1, 8, 8)] * batch, "t": times(batch), "cap_feats": [noise(9, 10)] * batch}


def temporal(model: nn.Module, batch: int) -> Inputs:
    return {
        "hidden_states": noise(3 * batch, 8, 4, 4),
        "encoder_hidden_states": noise(16 * batch, 9, 10),
        "num_frames": 3,
    }


def uvit(model: nn.Module, batch: int) -> Inputs:
    return {
        "input_ids": (torch.arange(64).reshape(8, 8) % 32).expand(batch, -1, -1).contiguous(),
        "encoder_hidden_states": noise(batch, 9, 10),
        "pooled_text_emb": noise(batch, 6),
        "micro_conds": torch.full((batch, 5), 6.0),
    }


def sana_wm(model: nn.Module, batch: int) -> Inputs:
    return {**example_inputs(model, batch, size=8), "timestep": torch.full((batch, 1, 4), 500.0)}


GIVEN: Mapping[str, Callable[[nn.Module, int], Inputs]] = {
    "AnyFlowFARTransformer3DModel": anyflow_far,
    "BriaFibo2Transformer2DModel": bria_fibo2,
    "Cosmos3OmniTransformer": cosmos3,
    "HiDreamImageTransformer2DModel": hidream,
    "HunyuanVideoFramepackTransformer3DModel": framepack,
    "Ideogram4Transformer2DModel": ideogram,
    "JoyImageEditPlusTransformer3DModel": joy_plus,
    "Krea2Transformer2DModel": krea2,
    "MiniMaxH3Transformer3DModel": minimax_h3,
    "OmniGenTransformer2DModel": omnigen,
    "QwenImage21Transformer2DModel": qwen21,
    "RFD4ProteinaTransformer": proteina,
    "SanaWMTransformer3DModel": sana_wm,
    "TransformerTemporalModel": temporal,
    "UVit2DModel": uvit,
    "WanAnimate2Transformer3DModel": wan_animate_2,
    "WanAnimateTransformer3DModel": wan_animate,
    "ZImageTransformer2DModel": z_image,
}
