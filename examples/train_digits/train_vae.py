"""Train the autoencoder: 32x32 grey images to 8x8 latents of four channels and back."""

from __future__ import annotations

import torch
from common import digit_images, parser, train, warp
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F


def new_vae() -> AutoencoderKL:
    """Return an untrained autoencoder that halves the side twice."""
    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
    )


def main() -> None:
    options = parser(__doc__, steps=1200, batch=64, lr=2e-3)
    options.add_argument("--kl", type=float, default=2e-3, help="weight of the mean KL per latent number")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    images, _ = digit_images()
    vae = new_vae().to(args.device, memory_format=torch.channels_last)
    data = images.to(args.device)

    def loss_of(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data), (args.batch,), generator=generator, device=args.device)
        batch = 2 * warp(data[chosen], degrees=5, shift=2, zoom=0.05, generator=generator) - 1
        posterior = vae.encode(batch.contiguous(memory_format=torch.channels_last)).latent_dist
        error = F.mse_loss(vae.decode(posterior.sample(generator)).sample, batch)
        loss: Tensor = error + args.kl * posterior.kl().mean() / posterior.mean[0].numel()
        return loss

    train(args, vae, args.work / "vae.safetensors", loss_of, second=0.99)
    vae.to("cpu")
    vae.eval()
    with torch.no_grad():
        posterior = vae.encode(2 * images - 1).latent_dist
        restored = vae.decode(posterior.mode()).sample.div(2).add(0.5).clamp(0, 1)
        latents = posterior.sample(torch.Generator().manual_seed(args.seed))
    print(f"restored to a mean absolute error of {(restored - images).abs().mean().item():.4f} of [0, 1]")
    print(f"standard deviation by latent channel: {latents.std((0, 2, 3)).tolist()}")
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))
    vae.save_pretrained(args.work / "vae")


if __name__ == "__main__":
    main()
