"""Train digits-sdxl: a small SDXL U-Net on the autoencoder's latents, saved as a `StableDiffusionXLPipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from common import Average, Latents, parser, train
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils import logging
from outliers import spread_attention, spread_resblocks
from text import WIDTH, digit_side, encode_digits
from torch import Tensor, nn
from torch.nn import functional as F
from train_dit import encode, new_scheduler, noised, public

DROP = 0.1
TIME_IDS = (32.0, 32.0, 0.0, 0.0, 32.0, 32.0)


def new_unet(channels: tuple[int, int, int]) -> UNet2DConditionModel:
    """Return an untrained U-Net with the block types of SDXL for 8x8 latents."""
    time_width = 32
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=channels,
        layers_per_block=1,
        transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=[max(1, width // 32) for width in channels],
        cross_attention_dim=2 * WIDTH,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=time_width,
        projection_class_embeddings_input_dim=len(TIME_IDS) * time_width + WIDTH,
        norm_num_groups=16,
    ).eval()


def export(folder: Path, vae: AutoencoderKL, unet: UNet2DConditionModel, average: Average, spread: float) -> None:
    """Save the pipeline with averaged weights, the transformers' channels spread, in half precision."""
    copy = UNet2DConditionModel.from_config(unet.config)
    copy.load_state_dict({**unet.state_dict(), **average.shadow})
    spread_attention(copy, spread)
    decoder = AutoencoderKL.from_config(public(vae) | {"force_upcast": False})
    decoder.load_state_dict(vae.state_dict())
    tokenizer, encoders = digit_side()
    pipeline = StableDiffusionXLPipeline(
        decoder, *encoders, tokenizer, tokenizer, copy, new_scheduler(), add_watermarker=False
    )
    pipeline.to(dtype=torch.float16)
    for encoder in encoders:  # transformers loads what the file holds, diffusers float32 unless told otherwise
        nn.Module.to(encoder, dtype=torch.float32)
    pipeline.save_pretrained(folder, safe_serialization=True)


def batch_of(
    latents: Latents, prompts: tuple[Tensor, Tensor], alphas: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Return noisy latents (N, 4, 8, 8), timesteps, text, pooled text and the velocities to predict."""
    chosen, noisy, times, velocity = noised(latents, alphas, size, generator)
    where: dict[str, Any] = {"generator": generator, "device": noisy.device}
    template = torch.randint(len(prompts[0]), (size,), **where)
    kept = (torch.rand(size, **where) >= DROP).float()  # dropped prompts are zeros, as in SDXL
    text, pooled = (states[template, latents[-1][chosen]] for states in prompts)
    return noisy, times, text * kept[:, None, None], pooled * kept[:, None], velocity


def main() -> None:
    options = parser(__doc__, steps=7000, batch=64, lr=1e-3)
    options.add_argument("--channels", type=int, nargs=3, default=(64, 96, 128), help="width of every level")
    options.add_argument("--decay", type=float, default=0.999, help="of the moving average")
    options.add_argument("--copies", type=int, default=19, help="augmented copies of every digit")
    options.add_argument("--resblocks", type=float, default=0.85, help="deviation of the log factors in ResBlocks")
    options.add_argument("--attention", type=float, default=1.1, help="deviation of those in transformers")
    args = options.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    vae = AutoencoderKL.from_pretrained(args.work / "vae").eval()
    means, deviations, labels = (part.to(args.device) for part in encode(vae.to(args.device), args.copies, args.seed))
    hidden, pooled = (states.to(args.device) for states in encode_digits())
    alphas = new_scheduler().alphas_cumprod.to(args.device)
    model = new_unet(tuple(args.channels))
    spread_resblocks(model, args.resblocks, args.seed)
    model.to(args.device, memory_format=torch.channels_last)
    print(f"{len(labels)} latents, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M weights", flush=True)
    average = Average(model, args.decay)
    time_ids = torch.tensor(TIME_IDS, device=args.device).expand(args.batch, -1)

    def loss_of(generator: torch.Generator) -> Tensor:
        noisy, times, text, projected, velocity = batch_of(
            (means, deviations, labels), (hidden, pooled), alphas, args.batch, generator
        )
        output = model(
            noisy.contiguous(memory_format=torch.channels_last),
            times,
            text,
            added_cond_kwargs={"text_embeds": projected, "time_ids": time_ids},
            return_dict=False,
        )[0]
        return F.mse_loss(output, velocity)

    train(args, model, args.work / "sdxl.safetensors", loss_of, warmup=200, average=average)
    export(args.assets / "digits-sdxl", vae, model, average, args.attention)


if __name__ == "__main__":
    main()
