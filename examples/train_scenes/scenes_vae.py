"""Train the autoencoder: 64x64 colour images to 8x8 latents of eight channels and back."""

from __future__ import annotations

import torch
from common import parser, train
from diffusers import AutoencoderKL
from draw import draw_many
from torch import Tensor
from torch.nn import functional as F


def new_vae(channels: tuple[int, ...]) -> AutoencoderKL:
    """Return an untrained autoencoder that halves the side three times."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=4,
        sample_size=64,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=False,
    )


def as_floats(pictures: Tensor) -> Tensor:
    """Return bytes (N, 3, 64, 64) as numbers from -1 to 1, channels last."""
    return pictures.float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def main() -> None:
    options = parser(__doc__, steps=800, batch=12, lr=2e-3, work="scenes-work")
    options.add_argument("--kl", type=float, default=2e-4, help="weight of the mean KL per latent number")
    options.add_argument("--channels", type=int, nargs=4, default=(16, 16, 32, 64), help="width of every level")
    options.add_argument("--images", type=int, default=20_000, help="pictures that are drawn")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    pictures, _ = draw_many(args.images, args.seed, args.threads)
    print(f"{len(pictures)} pictures", flush=True)
    vae = new_vae(tuple(args.channels)).to(args.device, memory_format=torch.channels_last)
    data = pictures.to(args.device)

    def loss_of(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data), (args.batch,), generator=generator, device=args.device)
        batch = as_floats(data[chosen])
        posterior = vae.encode(batch).latent_dist
        error = F.mse_loss(vae.decode(posterior.sample(generator)).sample, batch)
        loss: Tensor = error + args.kl * posterior.kl().mean() / posterior.mean[0].numel()
        return loss

    train(args, vae, args.work / "vae.safetensors", loss_of, second=0.99)
    vae.to("cpu")
    finish(vae.eval(), pictures[:1000], args.seed)
    vae.save_pretrained(args.work / "vae")


@torch.no_grad()
def finish(vae: AutoencoderKL, pictures: Tensor, seed: int) -> None:
    """Say how well pictures are restored, and put the latents' mean and deviation into the config."""
    posterior = vae.encode(as_floats(pictures)).latent_dist
    wrong = (vae.decode(posterior.mode()).sample.clamp(-1, 1) - as_floats(pictures)).abs().mean().item() / 2
    latents = posterior.sample(torch.Generator().manual_seed(seed))
    print(f"restored to a mean absolute error of {wrong:.4f} of [0, 1]")
    print(f"mean by latent channel: {latents.mean((0, 2, 3)).tolist()}")
    print(f"standard deviation by latent channel: {latents.std((0, 2, 3)).tolist()}")
    vae.register_to_config(
        scaling_factor=round(1 / latents.std().item(), 5), shift_factor=round(latents.mean().item(), 5)
    )


if __name__ == "__main__":
    main()
