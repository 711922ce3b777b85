# ruff: noqa: N802 (each is named after its pipeline)
"""Tiny pipelines with transformers."""

from typing import Any

import diffusers as d

from tests.denoisers.pipelines import parts
from tests.denoisers.pipelines.parts import TOKENS, WIDTH
from tests.denoisers.pipelines.tiny import IMAGE, LARGER, denoiser, tiny
from tests.denoisers.pipelines.unets import ddim


def flow(**more: Any) -> Any:
    return d.FlowMatchEulerDiscreteScheduler(**more)


@tiny(IMAGE)
def StableDiffusion3Pipeline() -> Any:
    model = denoiser(
        "SD3Transformer2DModel", patch_size=1, joint_attention_dim=WIDTH, pooled_projection_dim=2 * WIDTH,
        caption_projection_dim=16,
    )  # fmt: skip
    return d.StableDiffusion3Pipeline(
        transformer=model, scheduler=flow(), vae=parts.kl(use_quant_conv=False, use_post_quant_conv=False,
        shift_factor=0.06, scaling_factor=1.5), text_encoder=parts.clip(projected=True),
        tokenizer=parts.clip_tokenizer(), text_encoder_2=parts.clip(projected=True),
        tokenizer_2=parts.clip_tokenizer(), text_encoder_3=parts.t5(), tokenizer_3=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "strength": 1.0}, what="image to image")
def StableDiffusion3Img2ImgPipeline() -> Any:
    made = StableDiffusion3Pipeline()
    return d.StableDiffusion3Img2ImgPipeline(**made.components)


def flux_parts(**more: Any) -> dict[str, Any]:
    model = denoiser("FluxTransformer2DModel", **{"in_channels": 16, "joint_attention_dim": WIDTH,
        "pooled_projection_dim": WIDTH, **more})  # fmt: skip
    return {
        "transformer": model, "scheduler": flow(), "vae": parts.kl(shift_factor=0.1), "text_encoder": parts.clip(),
        "tokenizer": parts.clip_tokenizer(), "text_encoder_2": parts.t5(), "tokenizer_2": parts.tokenizer(),
    }  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def FluxPipeline() -> Any:
    return d.FluxPipeline(**flux_parts())


@tiny({**IMAGE, "max_sequence_length": TOKENS, "strength": 1.0}, what="image to image")
def FluxImg2ImgPipeline() -> Any:
    return d.FluxImg2ImgPipeline(**flux_parts())


@tiny({**IMAGE, "max_sequence_length": TOKENS}, what="inpainting")
def FluxFillPipeline() -> Any:
    return d.FluxFillPipeline(**flux_parts(in_channels=16 + 16 + 16, out_channels=16))


@tiny({**IMAGE, "max_sequence_length": TOKENS, "text_encoder_out_layers": [0, 1, 2]})
def Flux2KleinPipeline() -> Any:
    vae = d.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=4, sample_size=16, layers_per_block=1,
    )  # fmt: skip
    model = denoiser("Flux2Transformer2DModel", in_channels=16, joint_attention_dim=3 * WIDTH)
    return d.Flux2KleinPipeline(
        transformer=model, vae=vae, scheduler=flow(), text_encoder=parts.language_model("Qwen3", causal=True),
        tokenizer=parts.tokenizer(),
    )  # fmt: skip


def dc() -> Any:
    return d.AutoencoderDC(
        latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=[1, 1], downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.4,
    )  # fmt: skip


@tiny({**LARGER, "use_resolution_binning": False, "max_sequence_length": TOKENS, "complex_human_instruction": []})
def SanaPipeline() -> Any:
    return d.SanaPipeline(
        transformer=denoiser("SanaTransformer2DModel", caption_channels=WIDTH), scheduler=flow(), vae=dc(),
        text_encoder=parts.language_model("Gemma2"), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**LARGER, "use_resolution_binning": False, "max_sequence_length": TOKENS, "complex_human_instruction": []})
def SanaSprintPipeline() -> Any:
    more = {"caption_channels": WIDTH, "guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
    model = denoiser("SanaTransformer2DModel", **more)
    return d.SanaSprintPipeline(
        transformer=model, scheduler=d.SCMScheduler(), vae=dc(), text_encoder=parts.language_model("Gemma2"),
        tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({"height": 64, "width": 64, "max_sequence_length": TOKENS})
def Lumina2Pipeline() -> Any:
    return d.Lumina2Pipeline(
        transformer=denoiser("Lumina2Transformer2DModel", cap_feat_dim=WIDTH), scheduler=flow(),
        vae=parts.kl(shift_factor=0.1), text_encoder=parts.language_model("Gemma2"), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({"height": 64, "width": 64, "max_sequence_length": TOKENS})
def LuminaPipeline() -> Any:
    return d.LuminaPipeline(
        transformer=denoiser("LuminaNextDiT2DModel", cross_attention_dim=WIDTH), scheduler=flow(), vae=parts.kl(),
        text_encoder=parts.language_model("Gemma"), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def ChromaPipeline() -> Any:
    model = denoiser("ChromaTransformer2DModel", in_channels=16, joint_attention_dim=WIDTH)
    return d.ChromaPipeline(
        transformer=model, scheduler=flow(), vae=parts.kl(shift_factor=0.1), text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def AuraFlowPipeline() -> Any:
    return d.AuraFlowPipeline(
        transformer=denoiser("AuraFlowTransformer2DModel", joint_attention_dim=WIDTH), scheduler=flow(),
        vae=parts.kl(), text_encoder=parts.t5("UMT5"), tokenizer=parts.tokenizer(),
    )  # fmt: skip


def qwen_vae() -> Any:
    return d.AutoencoderKLQwenImage(
        base_dim=12, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def QwenImagePipeline() -> Any:
    model = denoiser("QwenImageTransformer2DModel", in_channels=16, out_channels=4, joint_attention_dim=WIDTH)
    return d.QwenImagePipeline(
        transformer=model, scheduler=flow(), vae=qwen_vae(), text_encoder=parts.qwen_vl(),
        tokenizer=parts.tokenizer(512),
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def CogView3PlusPipeline() -> Any:
    return d.CogView3PlusPipeline(
        transformer=denoiser("CogView3PlusTransformer2DModel", text_embed_dim=WIDTH), vae=parts.kl(),
        scheduler=d.CogVideoXDDIMScheduler(), text_encoder=parts.t5(), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def CogView4Pipeline() -> Any:
    return d.CogView4Pipeline(
        transformer=denoiser("CogView4Transformer2DModel", text_embed_dim=WIDTH), vae=parts.kl(),
        scheduler=flow(base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True,
        time_shift_type="linear"), text_encoder=parts.language_model("Glm"), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def ZImagePipeline() -> Any:
    return d.ZImagePipeline(
        transformer=denoiser("ZImageTransformer2DModel", cap_feat_dim=WIDTH), scheduler=flow(),
        vae=parts.kl(shift_factor=0.1), text_encoder=parts.language_model("Qwen3"), tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "use_resolution_binning": False, "max_sequence_length": TOKENS})
def PixArtAlphaPipeline() -> Any:
    model = denoiser("PixArtTransformer2DModel", caption_channels=WIDTH)
    return d.PixArtAlphaPipeline(
        transformer=model, scheduler=d.DPMSolverMultistepScheduler(), vae=parts.kl(), text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "use_resolution_binning": False, "max_sequence_length": TOKENS})
def PixArtSigmaPipeline() -> Any:
    model = denoiser("PixArtTransformer2DModel", caption_channels=WIDTH)
    return d.PixArtSigmaPipeline(
        transformer=model, scheduler=d.DPMSolverMultistepScheduler(), vae=parts.kl(), text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "use_resolution_binning": False})
def HunyuanDiTPipeline() -> Any:
    model = denoiser(
        "HunyuanDiT2DModel", cross_attention_dim=WIDTH, cross_attention_dim_t5=WIDTH, pooled_projection_dim=WIDTH,
        text_len=77, text_len_t5=256,
    )  # fmt: skip
    return d.HunyuanDiTPipeline(
        transformer=model, vae=parts.kl(), text_encoder=parts.bert(), tokenizer=parts.tokenizer(77),
        text_encoder_2=parts.t5(), tokenizer_2=parts.tokenizer(256), safety_checker=None, feature_extractor=None,
        scheduler=d.DDPMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
        requires_safety_checker=False,
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": TOKENS})
def BriaPipeline() -> Any:
    model = denoiser("BriaTransformer2DModel", in_channels=16, joint_attention_dim=WIDTH)
    return d.BriaPipeline(
        transformer=model, scheduler=flow(), vae=parts.kl(shift_factor=0.0), text_encoder=parts.t5(),
        tokenizer=parts.tokenizer(),
    )  # fmt: skip


@tiny({**IMAGE, "max_sequence_length": 64})
def OvisImagePipeline() -> Any:
    model = denoiser("OvisImageTransformer2DModel", in_channels=16, out_channels=16, joint_attention_dim=WIDTH)
    return d.OvisImagePipeline(
        transformer=model, scheduler=flow(), vae=parts.kl(shift_factor=0.1), tokenizer=parts.tokenizer(),
        text_encoder=parts.language_model("Qwen3"),
    )  # fmt: skip


@tiny(what="by class")
def DiTPipeline() -> Any:
    model = denoiser("DiTTransformer2DModel", num_embeds_ada_norm=1000, out_channels=8)
    return d.DiTPipeline(transformer=model, vae=parts.kl(), scheduler=ddim())
