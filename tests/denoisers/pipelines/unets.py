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


@tiny()
def StableDiffusionPipeline() -> Any:
    return d.StableDiffusionPipeline(unet=unet(), scheduler=d.PNDMScheduler(skip_prk_steps=True), **sd_parts())


@tiny(what="image to image")
def StableDiffusionImg2ImgPipeline() -> Any:
    return d.StableDiffusionImg2ImgPipeline(unet=unet(), scheduler=ddim(), **sd_parts())


@tiny(IMAGE, what="inpainting")
def StableDiffusionInpaintPipeline() -> Any:
    return d.StableDiffusionInpaintPipeline(unet=unet(in_channels=9), scheduler=ddim(), **sd_parts())


@tiny()
def LatentConsistencyModelPipeline() -> Any:
    model = unet(time_cond_proj_dim=8)
    return d.LatentConsistencyModelPipeline(unet=model, scheduler=d.LCMScheduler(), **sd_parts())


def sdxl_parts() -> dict[str, Any]:
    made: dict[str, Any] = {f"tokenizer{name}": parts.clip_tokenizer() for name in ("", "_2")}
    made |= {"text_encoder": parts.clip(), "text_encoder_2": parts.clip(projected=True), "vae": parts.kl()}
    model = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4, "cross_attention_dim": 2 * WIDTH}
    return made | {"unet": unet(**model, projection_class_embeddings_input_dim=6 * 4 + WIDTH)}


@tiny()
def StableDiffusionXLPipeline() -> Any:
    return d.StableDiffusionXLPipeline(scheduler=d.EulerDiscreteScheduler(), add_watermarker=False, **sdxl_parts())


@tiny({"strength": 1.0}, what="image to image")
def StableDiffusionXLImg2ImgPipeline() -> Any:
    return d.StableDiffusionXLImg2ImgPipeline(
        scheduler=d.EulerDiscreteScheduler(), add_watermarker=False, **sdxl_parts()
    )


@tiny(what="pixels, unconditional")
def DDPMPipeline() -> Any:
    return d.DDPMPipeline(unet=denoiser("UNet2DModel"), scheduler=d.DDPMScheduler())


@tiny(what="pixels, unconditional")
def DDIMPipeline() -> Any:
    return d.DDIMPipeline(unet=denoiser("UNet2DModel"), scheduler=d.DDIMScheduler())


@tiny(what="pixels, by class")
def ConsistencyModelPipeline() -> Any:
    model = denoiser("UNet2DModel", num_class_embeds=7)
    return d.ConsistencyModelPipeline(unet=model, scheduler=d.CMStochasticIterativeScheduler())


@tiny(what="unconditional")
def LDMPipeline() -> Any:
    vae = d.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8), norm_num_groups=2, latent_channels=3, num_vq_embeddings=16,
    )  # fmt: skip
    return d.LDMPipeline(vqvae=vae, unet=denoiser("UNet2DModel"), scheduler=d.DDIMScheduler())


@tiny(IMAGE, what="pixels")
def IFPipeline() -> Any:
    model = unet(in_channels=3, out_channels=6, encoder_hid_dim=WIDTH, encoder_hid_dim_type="text_proj")
    return d.IFPipeline(
        tokenizer=parts.tokenizer(), text_encoder=parts.t5(), unet=model, safety_checker=None, feature_extractor=None,
        scheduler=d.DDPMScheduler(variance_type="learned_range"), watermarker=None, requires_safety_checker=False,
    )  # fmt: skip
