"""The sizes that a denoiser's config gives away: channels, latents, text, patches; by key, whatever the class."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from q2.graph.tracing.inputs import forward_signature

__all__ = ["Shapes"]

_CHANNELS = ("in_channels", "in_visual_dim", "io_channels", "latent_dim", "in_dim", "input_dims")
_TEXT = (
    "caption_channels",
    "joint_attention_dim",
    "text_embed_dim",
    "text_dim",
    "cap_feat_dim",
    "context_in_dim",
    "in_text_dim",
    "text_in_dim",
    "llm_features_dim",
    "text_hidden_dim",
    "dit_text_dim",
    "cond_token_dim",
    "cross_attention_input_dim",
    "encoder_hid_dim",
    "encoder_hidden_size",
    "cross_attention_dim",
    "condition_dim",
    "embedding_dim",
    "hidden_size",
)
_PACKED = ("img_ids", "txt_ids", "position_ids", "video_rotary_emb")


@dataclass(frozen=True)
class Shapes:
    """Sizes of the inputs of one model; `size` and `tokens` are what the caller asked for."""

    model: nn.Module
    config: Mapping[str, Any]
    batch: int
    size: int | None
    tokens: int

    @classmethod
    def of(cls, model: nn.Module, batch: int, size: int | None, tokens: int) -> Shapes:
        """Read the model's config; a model without one has no keys."""
        return cls(model, dict(getattr(model, "config", None) or {}), batch, size, tokens)

    def first(self, *keys: str) -> Any:
        """Return the first of these keys that the config sets, or None."""
        return next((self.config[key] for key in keys if self.config.get(key) is not None), None)

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the model's forward."""
        return forward_signature(self.model).parameters

    @property
    def channels(self) -> int | None:
        """Channels of the noisy latents."""
        channels = self.first(*_CHANNELS)
        if channels is None:
            return None
        if "context_latents" in self.parameters and self.first("audio_acoustic_hidden_dim"):
            return int(self.config["audio_acoustic_hidden_dim"])
        if "inpaint_latents" in self.parameters:  # the other channels come with them
            return int(self.first("out_channels"))
        with_condition = "in_visual_dim" in self.config and self.config.get("visual_cond", True)
        return 2 * int(channels) + 1 if with_condition else int(channels)

    @property
    def text(self) -> int | None:
        """Width of the text embeddings."""
        if self.config.get("use_crossattn_projection"):
            return int(self.config["crossattn_proj_in_channels"])
        if self.config.get("use_prompt_embeddings") is False:
            return int(self.config["cross_attention_dim"])
        width = self.first(*_TEXT)
        return int(width[0]) if isinstance(width, (tuple, list)) else width

    @property
    def text_tokens(self) -> int:
        """Number of text tokens: what the caller asks for, unless a table of positions or a split fixes it."""
        fixed = self.first("text_len", "num_embeddings")
        if self.config.get("use_rotary_positional_embeddings") is False:
            fixed = self.first("max_text_seq_length")
        if self.is_sound and "condition_dim" in self.config and self.latents:
            fixed = self.latents[-1]
        if self.first("added_kv_proj_dim"):
            fixed = 512
        return int(fixed or self.tokens)

    @property
    def patch(self) -> int:
        """Height and width of a patch."""
        patch = self.first("patch_size", "latent_patch_size", "all_patch_size") or 1
        return int(patch[-1]) if isinstance(patch, (tuple, list)) else int(patch)

    @property
    def height(self) -> int:
        """Height of the latents: what the caller asks for, what the config says, or 32."""
        given = self.size or self.first("sample_height", "sample_size") or 32
        return int(given[0]) if isinstance(given, (tuple, list)) else int(given)

    @property
    def width(self) -> int:
        """Width of the latents."""
        given = self.size or self.first("sample_width", "sample_size") or 32
        return int(given[-1]) if isinstance(given, (tuple, list)) else int(given)

    @property
    def patches(self) -> int:
        """Number of image tokens."""
        return (self.height // self.patch) * (self.width // self.patch)

    @property
    def frames(self) -> int:
        """Number of latent frames; whole temporal patches."""
        compressed = self.first("temporal_compression_ratio")
        frames = self.first("sample_frames", "video_length", "num_frames") or 4
        if self.size:
            frames = frames if self.first("video_length") else min(frames, 4)
        elif compressed:
            frames = (frames - 1) // compressed + 1
        patch = self.first("patch_size_t") or 1
        return -(-int(frames) // patch) * int(patch)

    @property
    def is_video(self) -> bool:
        """Return whether the latents have frames: the class's name says 3D, or something in it is temporal."""
        names = {type(module).__name__ for module in self.model.modules()}
        return any(re.search(r"3D(?![a-z])|Temporal", name) for name in names)

    @property
    def is_sound(self) -> bool:
        """Return whether the latents are sequences."""
        told = any(key in self.config for key in ("io_channels", "latent_dim", "targets_length"))
        return told or "1D" in type(self.model).__name__ or "rotary_embedding" in self.parameters

    @property
    def is_packed(self) -> bool:
        """Return whether the latents come as tokens: then a forward takes their positions or sizes as arguments."""
        told = "img_shapes" in self.parameters or any(n in self.parameters and self.needs(n) for n in _PACKED)
        return (told and "input_ids" not in self.parameters) or {"num_frames", "height", "width"} <= set(
            self.parameters
        )

    def needs(self, name: str) -> bool:
        """Return whether a parameter must be given: it has no default, or a default of None that its type denies."""
        parameter = self.parameters[name]
        if parameter.default is parameter.empty:
            return True
        annotation = parameter.annotation
        return parameter.default is None and annotation is not parameter.empty and "None" not in _text(annotation)

    @property
    def latents(self) -> tuple[int, ...] | None:
        """Shape of the noisy latents."""
        batch, channels, height, width = self.batch, self.channels, self.height, self.width
        if channels is None:
            embedding = self.first("embedding_dim")
            return (batch, embedding) if embedding else None
        if self.is_packed:
            frames = self.frames if {"num_frames", "video_rotary_emb"} & set(self.parameters) else 1
            return batch, frames * height * width, channels
        if self.is_sound:
            length = self.size or min(int(self.first("sample_size", "targets_length") or 256), 1024)
            last = "context_latents" in self.parameters or {"latent_dim", "targets_length"} & set(self.config)
            return (batch, length, channels) if last else (batch, channels, length)
        return self._video(channels) if self.is_video else (batch, channels, height, width)

    def _video(self, channels: int) -> tuple[int, ...]:
        batch, height, width = self.batch, self.height, self.width
        if "in_visual_dim" in self.config:
            return batch, self.frames, height, width, channels
        by_frame = {"added_time_ids", "r_timestep"} & set(self.parameters)
        if by_frame or "temporal_compression_ratio" in self.config:
            return batch, self.frames, channels, height, width
        return batch, channels, self.frames, height, width

    @property
    def axes(self) -> int:
        """Number of coordinates of a token."""
        return len(self.first("axes_dims_rope", "axes_dims", "rope_axes_dim") or (0, 0, 0))

    @property
    def head(self) -> int:
        """Width of an attention head."""
        return int(self.first("attention_head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"])

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point dtype."""
        weights = (weight.dtype for weight in self.model.parameters() if weight.is_floating_point())
        return next(weights, torch.float32)

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next((weight.device for weight in self.model.parameters()), torch.device("cpu"))


def _text(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
