"""Train the denoiser: a small class-conditional DiT on the autoencoder's latents, saved as a diffusers pipeline.

The label is dropped here, not inside the model: every block has its own label table and would drop on its own,
so the model stays in evaluation mode and 10 % of the labels are replaced by the pipeline's null class.
"""

from __future__ import annotations

from pathlib import Path

import torch
from common import Average, Latents, digit_images, draw_latents, parser, train, warp
from diffusers import AutoencoderKL, DiTPipeline, DiTTransformer2DModel, DPMSolverMultistepScheduler
from outliers import spread_channels
from torch import Tensor, nn
from torch.nn import functional as F

NULL = 1000  # DiTPipeline's unconditional class, whatever the number of real classes
DROP = 0.1


def new_transformer(heads: int, depth: int) -> DiTTransformer2DModel:
    """Return an untrained transformer for 8x8 latents, with DiT's initialisation (Peebles and Xie, appendix A)."""
    model = DiTTransformer2DModel(
        num_attention_heads=heads,
        attention_head_dim=64,
        num_layers=depth,
        in_channels=4,
        out_channels=4,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=NULL,
    )
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)
            nn.init.normal_(module.weight[:10], std=0.02)
    nn.init.xavier_uniform_(model.pos_embed.proj.weight.view(model.inner_dim, -1))
    for block in model.transformer_blocks:
        for name in ("linear_1", "linear_2"):
            nn.init.normal_(getattr(block.norm1.emb.timestep_embedder, name).weight, std=0.02)
        nn.init.zeros_(block.norm1.linear.weight)
    for layer in (model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(layer.weight)
    return model.eval()


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Return the scheduler of training and of sampling: cosine betas, velocity prediction."""
    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        lambda_min_clipped=-5.1,
    )


@torch.no_grad()
def encode(vae: AutoencoderKL, copies: int, seed: int) -> Latents:
    """Return means and deviations of the latents (N, 4, 8, 8), scaled to unit deviation, and labels (N,).

    Every digit appears once as it is and `copies` times turned, moved and scaled a little.
    """
    images, labels = digit_images()
    generator = torch.Generator().manual_seed(seed)
    warped = [warp(images, degrees=5, shift=1, zoom=0.05, generator=generator) for _ in range(copies)]
    means, deviations = [], []
    for batch in torch.cat([images, *warped]).split(256):
        posterior = vae.encode(2 * batch.to(vae.device) - 1).latent_dist
        means.append(posterior.mean)
        deviations.append(posterior.std)
    scale = vae.config.scaling_factor
    return scale * torch.cat(means), scale * torch.cat(deviations), labels.repeat(copies + 1)


def noised(latents: Latents, alphas: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return which latents are drawn (N,), those with noise (N, 4, 8, 8), timesteps and the velocities to predict."""
    chosen, clean, noise, strata = draw_latents(latents, size, generator)
    times = (strata * len(alphas)).long()
    signal, spread = alphas[times].sqrt()[:, None, None, None], (1 - alphas[times]).sqrt()[:, None, None, None]
    return chosen, signal * clean + spread * noise, times, signal * noise - spread * clean


def export(
    folder: Path, vae: AutoencoderKL, transformer: DiTTransformer2DModel, average: Average, outliers: float
) -> None:
    """Save the pipeline with averaged weights, spread by `outliers`, in half precision."""
    copy = DiTTransformer2DModel.from_config(transformer.config)
    copy.load_state_dict({**transformer.state_dict(), **average.shadow})
    spread_channels(copy, outliers)
    labels = {str(digit): str(digit) for digit in range(10)}
    pipeline = DiTPipeline(copy, AutoencoderKL.from_config(public(vae)), new_scheduler(), id2label=labels)
    pipeline.vae.load_state_dict(vae.state_dict())
    pipeline.register_to_config(id2label=labels)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)


def public(model: AutoencoderKL) -> dict[str, object]:
    """Return the configuration without where it was loaded from."""
    return {key: value for key, value in model.config.items() if not key.startswith("_")}


def main() -> None:
    options = parser(__doc__, steps=9000, batch=128, lr=8e-4)
    options.add_argument("--heads", type=int, default=4, help="attention heads of 64")
    options.add_argument("--depth", type=int, default=4, help="transformer blocks")
    options.add_argument("--decay", type=float, default=0.999, help="of the moving average")
    options.add_argument("--copies", type=int, default=19, help="augmented copies of every digit")
    options.add_argument("--outliers", type=float, default=0.85, help="deviation of the log channel factors")
    options.add_argument("--compile", action="store_true", help="compile the model: 13 %% faster on two cores")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    vae = AutoencoderKL.from_pretrained(args.work / "vae").eval()
    means, deviations, labels = (part.to(args.device) for part in encode(vae.to(args.device), args.copies, args.seed))
    print(f"{len(labels)} latents, deviation {means.std().item():.3f}", flush=True)
    alphas = new_scheduler().alphas_cumprod.to(args.device)
    model = new_transformer(args.heads, args.depth).to(args.device)
    average = Average(model, args.decay)
    forward = torch.compile(model) if args.compile else model

    def loss_of(generator: torch.Generator) -> Tensor:
        chosen, noisy, times, velocity = noised((means, deviations, labels), alphas, args.batch, generator)
        drop = torch.rand(args.batch, generator=generator, device=args.device) < DROP
        output = forward(
            noisy,
            timestep=times,
            class_labels=labels[chosen].masked_fill(drop, NULL),
            return_dict=False,
        )[0]
        return F.mse_loss(output, velocity)

    train(args, model, args.work / "dit.safetensors", loss_of, warmup=300, average=average)
    export(args.assets / "digits-dit", vae, model, average, args.outliers)


if __name__ == "__main__":
    main()
