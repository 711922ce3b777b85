"""Train scenes-sd3: a small SD3 transformer on the autoencoder's latents, saved as a `StableDiffusion3Pipeline`.

Flow matching (Lipman et al., ICLR'23; Esser et al., ICML'24): the transformer predicts noise minus image at a share of
noise that is drawn from a logit-normal.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from common import Average, Latents, draw_latents, parser, steady_lr, train
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from diffusers.utils import logging
from draw import draw_many
from outliers import spread_joint
from scenes_vae import as_floats
from text import WIDTH, Encoders, encode_prompts, text_side
from torch import Tensor, nn
from torch.nn import functional as F
from train_dit import public
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel

from q2.denoisers.shapes import COLOURS, LAYOUTS, SCENES, SHAPES

DROP = 0.1
LENGTH = 10  # tokens of the longest caption, with its start and end
EMPTY = len(SCENES)


def scene_side() -> tuple[CLIPTokenizer, Encoders]:
    """Return the text side: a tokenizer for the words of the captions, and two encoders."""
    words = ("a", "an", *" ".join(LAYOUTS[1:]).split(), *COLOURS, *SHAPES)
    return text_side(words, (CLIPTextModelWithProjection,) * 2, LENGTH, gain=2.0, places=1.0)


def silent_encoder(tokenizer: CLIPTokenizer) -> T5EncoderModel:
    """Return a T5 that says zeros: what the pipeline puts in its place without one, which diffusers cannot load."""
    config = T5Config(vocab_size=len(tokenizer), d_model=2 * WIDTH, d_kv=8, d_ff=8, num_layers=1, num_heads=1)
    encoder: T5EncoderModel = T5EncoderModel(config).train(False).requires_grad_(False)
    nn.init.zeros_(encoder.encoder.final_layer_norm.weight)
    return encoder


def encode_captions() -> tuple[Tensor, Tensor]:
    """Return hidden (1231, tokens, 128) and pooled states (1231, 128) of every scene's caption and of no prompt."""
    hidden, pooled = encode_prompts(*scene_side(), [*map(str, SCENES), ""])
    return hidden, torch.cat(pooled, dim=-1)


def new_transformer(heads: int, depth: int) -> SD3Transformer2DModel:
    """Return an untrained transformer for 8x8 latents of eight channels; modulations and the last layer are zero."""
    width = 32 * heads
    model = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=8,
        out_channels=8,
        num_layers=depth,
        attention_head_dim=32,
        num_attention_heads=heads,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=width,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if "norm" in name or name == "proj_out":
                nn.init.zeros_(module.weight)
    return model


@torch.no_grad()
def encode_pictures(vae: AutoencoderKL, args: argparse.Namespace) -> Latents:
    """Return means and deviations (N, 8, 8, 8) of drawn pictures' latents, scaled, and the numbers of their scenes."""
    pictures, labels = draw_many(args.images, args.seed, args.threads)
    shift, scale = vae.config.shift_factor, vae.config.scaling_factor
    means, deviations = [], []
    vae.to(args.device, memory_format=torch.channels_last)
    for batch in pictures.split(250):
        posterior = vae.encode(as_floats(batch.to(args.device))).latent_dist
        means.append((posterior.mean - shift) * scale)
        deviations.append(posterior.std * scale)
    return torch.cat(means), torch.cat(deviations), labels.to(args.device)


def batch_of(
    latents: Latents, text: tuple[Tensor, Tensor], size: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Return noisy latents (N, 8, 8, 8), times, text, pooled text and the velocities to predict.

    The pipeline puts zeros for the third text encoder, which is not here, behind the text: as many as it is asked for,
    256 by default. So a batch has one, and one batch in 24 up to 256.
    """
    chosen, clean, noise, strata = draw_latents(latents, size, generator)
    share = torch.sigmoid(math.sqrt(2) * torch.erfinv((2 * strata - 1).clamp(-0.9999, 0.9999)))
    dropped = torch.rand(size, generator=generator, device=clean.device) < DROP
    hidden, pooled = (states[latents[2][chosen].where(~dropped, EMPTY)] for states in text)
    rare, length = torch.rand(2, generator=torch.Generator().manual_seed(generator.initial_seed())).tolist()
    hidden = F.pad(hidden, (0, 0, 0, 1 if rare > 1 / 24 else round(256**length)))
    amount = share[:, None, None, None]
    return (1 - amount) * clean + amount * noise, 1000 * share, hidden, pooled, noise - clean


def export(folder: Path, vae: AutoencoderKL, model: SD3Transformer2DModel, average: Average, spread: float) -> None:
    """Save the pipeline with averaged weights, the channels spread, in half precision."""
    copy = SD3Transformer2DModel.from_config(model.config)
    copy.load_state_dict({**model.state_dict(), **average.shadow})
    spread_joint(copy, spread)
    decoder = AutoencoderKL.from_config(public(vae))
    decoder.load_state_dict(vae.state_dict())
    tokenizer, encoders = scene_side()
    pipeline = StableDiffusion3Pipeline(
        copy,
        FlowMatchEulerDiscreteScheduler(shift=1.0),
        decoder,
        encoders[0],
        tokenizer,
        encoders[1],
        tokenizer,
        text_encoder_3=silent_encoder(tokenizer),
        tokenizer_3=tokenizer,
    )
    pipeline.to(dtype=torch.float16)
    for encoder in encoders:  # transformers loads what the file holds, diffusers float32 unless told otherwise
        nn.Module.to(encoder, dtype=torch.float32)
    pipeline.save_pretrained(folder, safe_serialization=True)


def main() -> None:
    options = parser(__doc__, steps=3000, batch=64, lr=2e-3, work="scenes-work")
    options.add_argument("--heads", type=int, default=4, help="of 32 channels each")
    options.add_argument("--depth", type=int, default=5, help="joint blocks")
    options.add_argument("--decay", type=float, default=0.999, help="of the moving average")
    options.add_argument("--images", type=int, default=12_000, help="pictures that are drawn")
    options.add_argument("--spread", type=float, default=0.85, help="deviation of the log factors of channels")
    args = options.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    vae = AutoencoderKL.from_pretrained(args.work / "vae").eval()
    means, deviations, labels = encode_pictures(vae, args)
    captions, pooled = (states.to(args.device) for states in encode_captions())
    model = new_transformer(args.heads, args.depth).to(args.device)
    print(f"{len(labels)} latents, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M weights", flush=True)
    average = Average(model, args.decay)

    def loss_of(generator: torch.Generator) -> Tensor:
        noisy, times, hidden, projected, velocity = batch_of(
            (means, deviations, labels), (captions, pooled), args.batch, generator
        )
        return F.mse_loss(model(noisy, hidden, projected, times, return_dict=False)[0], velocity)

    path = args.work / "sd3.safetensors"
    train(args, model, path, loss_of, schedule=steady_lr, warmup=200, average=average)
    export(args.assets / "scenes-sd3", vae, model, average, args.spread)


if __name__ == "__main__":
    main()
