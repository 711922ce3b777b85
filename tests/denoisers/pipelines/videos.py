# ruff: noqa: N802 (each is named after its pipeline)
"""Tiny pipelines that make videos."""

from typing import Any

import diffusers as d

from tests.denoisers.pipelines import parts
from tests.denoisers.pipelines.parts import TOKENS, WIDTH
from tests.denoisers.pipelines.tiny import VIDEO, denoiser, tiny
from tests.denoisers.pipelines.transformers import flow
from tests.denoisers.pipelines.unets import ddim, sd_parts, unet


def wan_vae() -> Any:
    return d.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


@tiny({**VIDEO, "max_sequence_length": TOKENS}, what="text to video")
def WanPipeline() -> Any:
    return d.WanPipeline(
        transformer=denoiser("WanTransformer3DModel", text_dim=WIDTH), vae=wan_vae(), scheduler=flow(shift=3.0),
        text_encoder=parts.t5("UMT5"), tokenizer=parts.tokenizer(),
    )  # fmt: skip


def ltx_parts() -> dict[str, Any]:
    vae = d.AutoencoderKLLTXVideo(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4,
        timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True, decoder_causal=False,
    )  # fmt: skip
    return {
        "transformer": denoiser("LTXVideoTransformer3DModel", caption_channels=WIDTH), "vae": vae, "scheduler": flow(),
        "text_encoder": parts.t5(), "tokenizer": parts.tokenizer(),
    }  # fmt: skip


LTX = {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": TOKENS}


@tiny(LTX, what="text to video")
def LTXPipeline() -> Any:
    return d.LTXPipeline(**ltx_parts())


@tiny(LTX, what="image to video")
def LTXImageToVideoPipeline() -> Any:
    return d.LTXImageToVideoPipeline(**ltx_parts())


@tiny({"height": 16, "width": 16, "num_frames": 7, "max_sequence_length": TOKENS}, what="text to video")
def MochiPipeline() -> Any:
    vae = d.AutoencoderKLMochi(
        latent_channels=12, out_channels=3, encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4, layers_per_block=(1,) * 5,
        latents_mean=[0.0] * 12, latents_std=[1.0] * 12,
    )  # fmt: skip
    return d.MochiPipeline(
        transformer=denoiser("MochiTransformer3DModel", text_embed_dim=WIDTH, in_channels=12), vae=vae,
        scheduler=flow(),
        text_encoder=parts.t5(), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**VIDEO, "max_sequence_length": TOKENS}, what="text to video")
def HunyuanVideoPipeline() -> Any:
    vae = d.AutoencoderKLHunyuanVideo(
        in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(8,) * 4, layers_per_block=1,
        norm_num_groups=4, down_block_types=("HunyuanVideoDownBlock3D",) * 4,
        up_block_types=("HunyuanVideoUpBlock3D",) * 4, act_fn="silu", scaling_factor=0.476986,
        spatial_compression_ratio=8, temporal_compression_ratio=4, mid_block_add_attention=True,
    )  # fmt: skip
    return d.HunyuanVideoPipeline(
        transformer=denoiser("HunyuanVideoTransformer3DModel", text_embed_dim=WIDTH, pooled_projection_dim=WIDTH),
        vae=vae, scheduler=flow(shift=7.0), text_encoder=parts.language_model("Llama"), tokenizer=parts.tokenizer(512),
        text_encoder_2=parts.clip(tokens=77), tokenizer_2=parts.clip_tokenizer(),
    )  # fmt: skip


@tiny({"height": 16, "width": 16, "num_frames": 9, "max_sequence_length": TOKENS}, what="text to video")
def CogVideoXPipeline() -> Any:
    vae = d.AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8,) * 4, latent_channels=4,
        layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4,
    )  # fmt: skip
    return d.CogVideoXPipeline(
        transformer=denoiser("CogVideoXTransformer3DModel", text_embed_dim=WIDTH, sample_width=2, sample_height=2,
        max_text_seq_length=TOKENS, attention_head_dim=16), vae=vae,
        scheduler=d.CogVideoXDDIMScheduler(), text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({"height": 16, "width": 16, "video_length": 1}, what="text to video")
def LattePipeline() -> Any:
    return d.LattePipeline(
        transformer=denoiser("LatteTransformer3DModel", caption_channels=WIDTH, video_length=1, out_channels=8),
        vae=parts.kl(),
        scheduler=ddim(), text_encoder=parts.t5(), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({"num_frames": 3, "height": 16, "width": 16}, what="text to video")
def AnimateDiffPipeline() -> Any:
    adapter = d.MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2,
    )  # fmt: skip
    made = sd_parts()
    return d.AnimateDiffPipeline(
        vae=made["vae"], text_encoder=made["text_encoder"], tokenizer=made["tokenizer"], unet=unet(),
        motion_adapter=adapter, scheduler=d.DDIMScheduler(beta_schedule="linear", clip_sample=False),
    )  # fmt: skip


@tiny({"num_frames": 3, "height": 16, "width": 16}, what="text to video")
def TextToVideoSDPipeline() -> Any:
    made = sd_parts()
    return d.TextToVideoSDPipeline(
        vae=made["vae"], text_encoder=made["text_encoder"], tokenizer=made["tokenizer"],
        unet=denoiser("UNet3DConditionModel", cross_attention_dim=WIDTH), scheduler=ddim(),
    )  # fmt: skip


@tiny({"num_frames": 2, "height": 32, "width": 32}, what="image to video")
def StableVideoDiffusionPipeline() -> Any:
    vae = d.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        layers_per_block=1,
    )  # fmt: skip
    return d.StableVideoDiffusionPipeline(
        unet=denoiser("UNetSpatioTemporalConditionModel", cross_attention_dim=WIDTH, num_frames=2), vae=vae,
        scheduler=d.EulerDiscreteScheduler(prediction_type="v_prediction", use_karras_sigmas=True),
        image_encoder=parts.clip_vision(224), feature_extractor=parts.clip_images(224),
    )  # fmt: skip
