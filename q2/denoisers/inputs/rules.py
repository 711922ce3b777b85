"""What the inputs of a denoiser look like, by the name of the forward's parameter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from q2.denoisers.inputs.values import Values

__all__ = ["Rules", "derive"]

_TIME_IDS = 6
_IMAGE_TOKENS = 257  # of a CLIP image encoder
_SAME = {  # parameters that mean the same
    "sample": "hidden_states",
    "decoder_input_tokens": "hidden_states",
    "image_latents": "hidden_states",
    "timesteps": "timestep",
    "timestep_ratio": "timestep",
    "timestep_r": "timestep",
    "r_timestep": "timestep",
    "text_bth": "encoder_hidden_states",
    "encoder_mask": "encoder_attention_mask",
    "mask": "encoder_attention_mask",
    "text_embedding_mask": "encoder_attention_mask",
    "encoder_hidden_states_mask": "encoder_attention_mask",
    "video_rotary_emb": "image_rotary_emb",
    "target_size": "original_size",
    "crop_coords": "original_size",
    "audio_num_frames": "tokens",
}


class Rules(Values):
    """One method for every parameter name; it gives None where the model does without."""

    # Latents and time:

    def _hidden_states(self, name: str) -> Tensor | None:
        shape = self._shapes.latents
        return self._noise(*shape) if shape else None

    def _timestep(self, name: str) -> Tensor | None:
        if name in ("timestep_r", "r_timestep") and not self._shapes.needs(name):
            return self._timestep("timestep") if self._first("use_meanflow") else None
        parameters = self._shapes.parameters
        if name == "r_timestep" or "r_timestep" in parameters:
            return self._full(500, self._batch, self._shapes.frames)
        if "sample" in parameters and name == "timestep":
            return self._full(500, dtype=torch.long)  # pipelines of U-Nets pass one for all
        flows = "guidance_embeds" in self._shapes.config or "img_ids" in parameters or name == "timestep_ratio"
        discrete = "num_embeds_ada_norm" in self._shapes.config
        return self._full(0.5 if flows else 500, self._batch, dtype=torch.long if discrete else None)

    def _decoder_noise_time(self, name: str) -> Tensor:
        return self._full(0.5, self._batch)

    def _sigma(self, name: str) -> Tensor | None:
        return self._full(0.5, self._batch) if self._first("cross_attn_mod", "audio_cross_attn_mod") else None

    def _target_timestep(self, name: str) -> Tensor | None:
        return self._full(0.5, self._batch) if self._first("flow_map") else None

    def _timestep_cond(self, name: str) -> Tensor | None:
        return self._vector("time_cond_proj_dim")

    def _guidance(self, name: str) -> Tensor | None:
        return self._full(3.5, self._batch) if self._first("guidance_embeds") else None

    def _num_frames(self, name: str) -> int:
        return self._shapes.frames

    def _height(self, name: str) -> int:
        return self._shapes.height

    def _width(self, name: str) -> int:
        return self._shapes.width

    def _tokens(self, name: str) -> int:
        return self._shapes.tokens

    def _fps(self, name: str) -> Tensor | None:
        return self._full(16, self._batch) if self._shapes.needs(name) else None

    def _t(self, name: str) -> Tensor:
        return self._full(0.5, self._batch)

    def _x(self, name: str) -> list[Tensor] | None:
        """Latents (channels, 1, height, width) of every image, for a forward that takes lists."""
        shapes = self._shapes
        wanted = "cap_feats" in shapes.parameters and shapes.channels
        return [self._noise(int(wanted), 1, shapes.height, shapes.width)] * self._batch if wanted else None

    def _cap_feats(self, name: str) -> list[Tensor] | None:
        """Text (tokens, width) of every image."""
        width = self._first("cap_feat_dim")
        return [self._noise(self._shapes.tokens, int(width))] * self._batch if width else None

    # Text:

    def _encoder_hidden_states(self, name: str) -> object:
        width, layers = self._shapes.text, self._first("num_text_layers")
        count = self._shapes.text_tokens
        if not width:
            return None
        repeats = self._shapes.frames if "motion_max_seq_length" in self._shapes.config else 1
        return self._noise(self._batch * repeats, count, *([layers] if layers else []), width)

    def _encoder_hidden_states_2(self, name: str) -> Tensor | None:
        return self._embeds(self._shapes.tokens, "text_embed_2_dim")

    def _encoder_hidden_states_t5(self, name: str) -> Tensor | None:
        return self._embeds(
            self._first("text_len_t5") or self._shapes.tokens, "cross_attention_dim_t5", "text_embed_dim_t5"
        )

    def _encoder_hidden_states_image(self, name: str) -> Tensor | None:
        return self._embeds(_IMAGE_TOKENS, "image_dim")

    def _encoder_attention_mask(self, name: str) -> Tensor | None:
        wanted = (
            name in _SAME
            or self._shapes.needs(name)
            or "add_time_condition" in dict(self._shapes.model.named_children())
        )
        return self._mask(self._shapes.text_tokens) if wanted else None

    def _encoder_attention_mask_2(self, name: str) -> Tensor | None:
        return self._mask(self._shapes.tokens) if self._first("text_embed_2_dim") else None

    def _text_embedding_mask_t5(self, name: str) -> Tensor | None:
        return self._mask(self._first("text_len_t5")) if self._first("text_len_t5") else None

    def _text_lens(self, name: str) -> Tensor:
        return self._full(self._shapes.tokens, self._batch, dtype=torch.long)

    def _text_encoder_layers(self, name: str) -> list[Tensor]:
        layers = int(self._first("num_layers") or 0) + int(self._first("num_single_layers") or 0)
        return [self._noise(self._batch, self._shapes.tokens, int(self._first("text_encoder_dim")))] * layers

    def _pooled_projections(self, name: str) -> Tensor | None:
        return self._vector("pooled_projection_dim", "in_text_dim2")

    def _clip_text_pooled(self, name: str) -> Tensor | None:
        return self._embeds(1, "clip_text_pooled_in_channels")

    def _clip_text(self, name: str) -> Tensor | None:
        return self._embeds(self._shapes.tokens, "clip_text_in_channels")

    def _global_hidden_states(self, name: str) -> Tensor | None:
        return (
            self._embeds(1, "global_states_input_dim")
            if self._first("global_states_input_dim")
            else self._vector("global_cond_dim")
        )

    def _proj_embedding(self, name: str) -> Tensor | None:
        return self._vector("embedding_proj_dim", "embedding_dim")

    def _image_embeds(self, name: str) -> Tensor | None:
        width = self._first("image_embed_dim", "image_proj_dim")  # all zeros say that there is no image
        return self._full(0.5, self._batch, self._shapes.tokens, int(width)) if width else None

    def _image_embeddings(self, name: str) -> Tensor | None:
        return self._vector("cross_attention_dim")

    def _encodings_and_masks(self, name: str) -> list[tuple[Tensor, Tensor]] | None:
        encoded = self._embeds(self._shapes.tokens, "d_model")
        return None if encoded is None else [(encoded, self._mask(self._shapes.tokens))]

    # Conditions of several kinds:

    def _class_labels(self, name: str) -> Tensor | None:
        kind, classes = self._first("class_embed_type"), self._first("num_class_embeds", "num_embeds_ada_norm")
        if kind in ("projection", "simple_projection"):
            return self._vector("projection_class_embeddings_input_dim")
        if kind == "timestep":
            return self._full(1, self._batch)
        return self._arange(self._batch) % classes if classes else None

    def _added_cond_kwargs(self, name: str) -> dict[str, object] | None:
        kinds = (self._first("addition_embed_type"), self._first("encoder_hid_dim_type"))
        added: dict[str, object] = {}
        if "text_time" in kinds:
            ids = _TIME_IDS * self._first("addition_time_embed_dim")
            added["text_embeds"] = self._noise(self._batch, self._first("projection_class_embeddings_input_dim") - ids)
            added["time_ids"] = self._full(512, self._batch, _TIME_IDS)
        if any("image" in str(kind) for kind in kinds):
            added["image_embeds"] = self._vector("encoder_hid_dim", "cross_attention_dim")
        if "text_image" in kinds:
            added["text_embeds"] = self._vector("cross_attention_dim")
        if "image_hint" in kinds:
            added["hint"] = self._noise(self._batch, 3, 8 * self._shapes.height, 8 * self._shapes.width)
        if "adaptive" in str(self._first("norm_type")) or "use_additional_conditions" in self._shapes.config:
            return self._resolution()
        return added or None

    def _resolution(self) -> dict[str, object]:
        asked = self._first("use_additional_conditions")
        if asked or (asked is None and self._first("sample_size") == 128):
            return {"resolution": self._full(512, self._batch, 2), "aspect_ratio": self._full(1, self._batch, 1)}
        return {"resolution": None, "aspect_ratio": None}

    def _added_time_ids(self, name: str) -> Tensor | None:
        count = int(self._first("projection_class_embeddings_input_dim")) // int(self._first("addition_time_embed_dim"))
        return self._full(6, self._batch, count)

    def _original_size(self, name: str) -> Tensor:
        return self._full(0 if name == "crop_coords" else 512, self._batch, 2)

    def _image_meta_size(self, name: str) -> Tensor | None:
        return self._full(512, self._batch, _TIME_IDS) if self._first("use_style_cond_and_image_meta_size") else None

    def _style(self, name: str) -> Tensor | None:
        wanted = self._first("use_style_cond_and_image_meta_size")
        return self._full(0, self._batch, dtype=torch.long) if wanted else None

    def _prior_token_id(self, name: str) -> Tensor:
        ids: Tensor = self._arange(self._shapes.patches) % self._first("prior_vq_quantizer_codebook_size")
        return ids.expand(self._batch, self._shapes.patches).contiguous()

    def _prior_token_drop(self, name: str) -> Tensor:
        return self._full(0, self._batch, self._shapes.patches, dtype=torch.bool)

    def _context_latents(self, name: str) -> Tensor | None:
        shape, channels = self._shapes.latents, self._first("in_channels")
        if not self._shapes.needs(name) or shape is None:
            return None
        return self._noise(*shape[:-1], channels - shape[-1])

    def _inpaint_latents(self, name: str) -> Tensor | None:
        shape = self._shapes.latents
        channels = int(self._first("in_channels") or 0) - int(self._first("out_channels") or 0)
        return self._noise(shape[0], channels, *shape[2:]) if shape and channels > 0 else None

    def _control_hidden_states(self, name: str) -> Tensor | None:
        shape, channels = self._shapes.latents, self._first("vace_in_channels")
        return self._noise(shape[0], channels, *shape[2:]) if shape and channels else None

    def _audio_hidden_states(self, name: str) -> Tensor | None:
        return self._embeds(self._shapes.tokens, "audio_in_channels", "in_audio_dim")

    def _audio_encoder_hidden_states(self, name: str) -> Tensor | None:
        return self._embeds(self._shapes.tokens, "caption_channels", "audio_cross_attention_dim")

    def _padding_mask(self, name: str) -> Tensor | None:
        shapes = self._shapes
        wanted = self._first("concat_padding_mask")
        return self._full(0, 1, 1, 8 * shapes.height, 8 * shapes.width) if wanted else None

    # Positions:

    def _img_ids(self, name: str) -> Tensor | None:
        """Coordinates (height · width, axes): zeros, rows, columns, zeros."""
        height, width = self._shapes.height, self._shapes.width
        if not self._shapes.needs(name):
            return None
        place = self._arange(height * width)
        grid = [torch.zeros_like(place) for _ in range(self._shapes.axes)]
        grid[1], grid[2] = place // width, place % width
        return torch.stack(grid, dim=-1).to(self._shapes.dtype)

    def _txt_ids(self, name: str) -> Tensor:
        return self._full(0, self._shapes.tokens, self._shapes.axes)

    def _img_shapes(self, name: str) -> list[Any]:
        shape = (1, self._shapes.height, self._shapes.width)
        nested = "list[tuple[int, int, int]] | None" in str(self._shapes.parameters[name].annotation)
        return [[shape] if nested else shape for _ in range(self._batch)]

    def _indices_latents(self, name: str) -> Tensor:
        return self._arange(self._shapes.frames)

    def _cross_attention_kwargs(self, name: str) -> dict[str, object] | None:
        return {} if "encoder_mask" in self._shapes.parameters else None  # unpacked without a look

    def _visual_rope_pos(self, name: str) -> list[Tensor] | None:
        sizes = (
            self._shapes.frames,
            self._shapes.height // self._shapes.patch,
            self._shapes.width // self._shapes.patch,
        )
        return [self._arange(size) for size in sizes] if self._shapes.needs(name) else None

    def _text_rope_pos(self, name: str) -> Tensor:
        return self._arange(self._shapes.tokens)

    def _image_rotary_emb(self, name: str) -> object:
        shapes, parameters = self._shapes, self._shapes.parameters
        if "tuple" not in str(parameters[name].annotation) and shapes.needs(name):
            angles = self._noise(4 * shapes.height, 4 * shapes.width, shapes.head // 2).float()
            return torch.complex(angles.cos(), angles.sin())  # one grid for all aspect ratios
        if name == "video_rotary_emb":
            angles = self._noise(self._batch, (shapes.latents or (0, 0))[1], self._first("cross_attention_dim"))
            return angles.cos(), angles.sin()
        wanted = self._first("use_rotary_positional_embeddings") or "text_embedding_mask" in parameters
        frames = shapes.frames // (self._first("patch_size_t") or 1) if shapes.is_video else 1
        angles = self._noise(frames * shapes.patches, shapes.head)
        return (angles.cos(), angles.sin()) if wanted else None

    def _rotary_embedding(self, name: str) -> tuple[Tensor, Tensor]:
        angles = self._noise((self._shapes.latents or (0, 0, 0))[-1] + 1, self._shapes.head // 2)
        return angles.cos(), angles.sin()


def derive(rules: Rules, name: str) -> object:
    """Return the value of a parameter of the forward, or None."""
    rule = vars(Rules).get(f"_{_SAME.get(name, name)}")
    return rule(rules, name) if rule else None
