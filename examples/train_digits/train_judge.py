"""Train the judge: a digit classifier that sees only real, mildly disturbed digits."""

from __future__ import annotations

import math
from typing import Any

import torch
from common import digit_images, parser, split, train, warp
from torch import Tensor
from torch.nn import functional as F

from q2.denoisers.judge import DigitsJudge


def disturb(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images turned, moved and scaled a little, half of them blurred, all with some grey noise."""
    images = warp(images, degrees=10, shift=3, zoom=0.1, generator=generator)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    where: dict[str, Any] = {"generator": generator, "device": images.device}
    chosen = torch.rand(len(images), 1, 1, 1, **where) < 0.5
    level = 0.15 * torch.rand(len(images), 1, 1, 1, **where)
    noise = level * torch.randn(images.shape, **where)
    return (torch.where(chosen, blurred, images) + noise).clamp(0, 1)


def main() -> None:
    args = parser(__doc__, steps=1500, batch=128, lr=3e-3).parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    images, labels = digit_images()
    seen, test = split(labels, args.seed)
    judge = DigitsJudge().to(args.device)
    data, targets = images[seen].to(args.device), labels[seen].to(args.device)

    def loss_of(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(targets), (args.batch,), generator=generator, device=args.device)
        return F.cross_entropy(judge(disturb(data[chosen], generator)), targets[chosen], label_smoothing=0.05)

    train(args, judge, args.work / "judge.safetensors", loss_of, second=0.999, weight_decay=0.05, clip=math.inf)
    judge.to("cpu")
    judge.eval()
    generator = torch.Generator().manual_seed(args.seed)
    with torch.no_grad():
        clean = (judge(images[test]).argmax(1) == labels[test]).float().mean().item()
        disturbed = (judge(disturb(images[test], generator)).argmax(1) == labels[test]).float().mean().item()
    print(f"held-out accuracy: {clean:.4f}, disturbed: {disturbed:.4f} ({len(test)} images)")
    record = {"split_seed": args.seed, "test_accuracy": round(clean, 4), "disturbed_accuracy": round(disturbed, 4)}
    judge.save(args.assets / "digits-judge", record)


if __name__ == "__main__":
    main()
