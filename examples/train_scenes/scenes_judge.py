"""Train the judge: a classifier of layout, colours and shapes that sees only drawn, mildly disturbed scenes."""

from __future__ import annotations

import math
from typing import Any

import torch
from common import parser, train
from draw import draw_scenes
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from q2.denoisers.judge import REAL, ScenesJudge
from q2.denoisers.shapes import SCENES


def disturb(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images at half their side, some of them blurred, all with a little noise."""
    images = F.avg_pool2d(images, 2)
    where: dict[str, Any] = {"generator": generator, "device": images.device}
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    chosen = torch.rand(len(images), 1, 1, 1, **where) < 0.4
    level = 0.06 * torch.rand(len(images), 1, 1, 1, **where)
    noise = level * torch.randn(images.shape, **where)
    return (torch.where(chosen, blurred, images) + noise).clamp(0, 1)


def main() -> None:
    options = parser(__doc__, steps=500, batch=64, lr=4e-3, work="scenes-work")
    options.add_argument("--images", type=int, default=8_000, help="scenes that are drawn, as many of every layout")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    pictures, labels = draw_scenes(args.images, args.seed + 1, alone=1 / 3)
    pictures, labels = pictures.to(args.device), labels.to(args.device)
    judge = ScenesJudge(width=16).to(args.device)

    def loss_of(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(labels), (args.batch,), generator=generator, device=args.device)
        parts = judge.get_buffer("members")[:, labels[chosen]].T  # the outputs that make up each scene
        return -(judge.log_shares(disturb(pictures[chosen] / 255, generator)) * parts).sum(1).mean()

    train(args, judge, args.work / "judge.safetensors", loss_of, second=0.999, weight_decay=0.05, clip=math.inf)
    judge.to("cpu")
    judge.eval()
    real, _ = draw_scenes(3000, args.seed + 3, alone=30 / len(SCENES))
    moments = rescale(judge, real)
    folder = args.assets / "scenes-judge"
    judge.save(folder, measure(judge, args.seed))
    save_file(moments, folder / REAL)


@torch.no_grad()
def rescale(judge: ScenesJudge, pictures: Tensor, total: float = 100.0) -> dict[str, Tensor]:
    """Give the features of drawings a total variance of `total`, with the same logits; return mean and covariance."""
    features = torch.cat([judge.features(some / 255) for some in pictures.split(500)]).double()
    factor = (total / features.var(0).sum()).sqrt()
    for tensor in (judge.neck.weight, judge.neck.bias):
        tensor.mul_(factor)
    judge.head.weight.div_(factor)
    return {"mean": features.mean(0) * factor, "covariance": features.T.cov() * factor**2}


@torch.no_grad()
def measure(judge: ScenesJudge, seed: int) -> dict[str, float]:
    """Return the accuracies on 1,000 new drawings: whole scenes, and clean or disturbed."""
    pictures, labels = draw_scenes(1000, seed + 2, alone=1 / 3)
    images = pictures / 255
    generator = torch.Generator().manual_seed(seed)
    clean = (judge(images).argmax(1) == labels).float().mean().item()
    disturbed = (judge(disturb(images, generator)).argmax(1) == labels).float().mean().item()
    print(f"whole scenes of new drawings: {clean:.4f}, disturbed: {disturbed:.4f} ({len(labels)} images)")
    return {"seed": seed, "test_accuracy": round(clean, 4), "disturbed_accuracy": round(disturbed, 4)}


if __name__ == "__main__":
    main()
