"""Train the judge: a digit classifier that sees only real, mildly disturbed digits."""

from __future__ import annotations

import torch
from common import Clock, cosine_lr, digit_images, load_checkpoint, parser, save_checkpoint, split, warp
from torch import Tensor
from torch.nn import functional as F

from q2.denoisers.judge import DigitsJudge


def disturb(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images turned, moved and scaled a little, half of them blurred, all with some grey noise."""
    images = warp(images, degrees=10, shift=3, zoom=0.1, generator=generator)
    blurred = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    level = 0.15 * torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = level * torch.randn(images.shape, generator=generator)
    return (torch.where(chosen, blurred, images) + noise).clamp(0, 1)


def main() -> None:
    args = parser(__doc__, steps=1500, batch=128, lr=3e-3).parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    images, labels = digit_images()
    train, test = split(labels, args.seed)
    judge = DigitsJudge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=args.lr, weight_decay=0.05)
    path = args.work / "judge.safetensors"
    start = load_checkpoint(path, judge, optimizer)
    clock = Clock(start, args.steps)
    for step in range(start, args.steps):
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        chosen = train[torch.randint(len(train), (args.batch,), generator=generator)]
        cosine_lr(optimizer, step, args.steps, args.lr, warmup=100)
        loss = F.cross_entropy(judge(disturb(images[chosen], generator)), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 250 == 0:
            clock.line(step + 1, loss=loss.item())
            save_checkpoint(path, step + 1, judge, optimizer)
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
