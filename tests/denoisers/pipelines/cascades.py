# ruff: noqa: N802 (each is named after its pipeline)
"""Tiny pipelines of several denoisers."""

from typing import Any

import diffusers as d

from tests.denoisers.pipelines import parts
from tests.denoisers.pipelines.parts import WIDTH
from tests.denoisers.pipelines.tiny import denoiser, tiny
from tests.denoisers.pipelines.unets import ddim, unet


def movq() -> Any:
    return d.VQModel(
        block_out_channels=[32, 64], down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        in_channels=3, latent_channels=4, layers_per_block=1, norm_num_groups=8, norm_type="spatial",
        num_vq_embeddings=12, out_channels=3, up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
        vq_embed_dim=4,
    )  # fmt: skip


def kandinsky() -> dict[str, Any]:
    model = unet(
        in_channels=4, out_channels=8, encoder_hid_dim=WIDTH, encoder_hid_dim_type="image_proj",
        addition_embed_type="image", cross_attention_dim=WIDTH, resnet_time_scale_shift="scale_shift",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    )  # fmt: skip
    scheduler = d.DDIMScheduler(beta_schedule="linear", clip_sample=False, prediction_type="epsilon")
    return {"unet": model, "scheduler": scheduler, "movq": movq()}


@tiny({"height": 16, "width": 16}, component="prior_prior", what="cascade")
def KandinskyV22CombinedPipeline() -> Any:
    prior = denoiser(
        "PriorTransformer", embedding_dim=WIDTH, num_embeddings=parts.TOKENS, added_emb_type="prd",
        additional_embeddings=4,
    )  # fmt: skip
    return d.KandinskyV22CombinedPipeline(
        **kandinsky(), prior_prior=prior, prior_image_encoder=parts.clip_vision(),
        prior_text_encoder=parts.clip(projected=True), prior_tokenizer=parts.clip_tokenizer(),
        prior_scheduler=d.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample",
        num_train_timesteps=1000, clip_sample_range=5.0), prior_image_processor=parts.clip_images(),
    )  # fmt: skip


@tiny({"height": 16, "width": 16}, what="decoder of a cascade, by a plugin")
def KandinskyV22Pipeline() -> Any:
    return d.KandinskyV22Pipeline(**kandinsky())


@tiny({"height": 16, "width": 16})
def Kandinsky3Pipeline() -> Any:
    return d.Kandinsky3Pipeline(
        unet=denoiser("Kandinsky3UNet", encoder_hid_dim=WIDTH), scheduler=ddim(), movq=movq(),
        text_encoder=parts.t5(), tokenizer=parts.tokenizer(128),
    )  # fmt: skip
