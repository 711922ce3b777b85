"""What training scripts share, also those of `train_scenes`: digits, learning rates, the average, checkpoints."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

Latents = tuple[Tensor, Tensor, Tensor]
"""Means and deviations (N, channels, height, width) of images' latents, and the images' labels (N,)."""
Schedule = Callable[[torch.optim.Optimizer, int, int, float, int], None]
ASSETS = Path(__file__).resolve().parents[2] / "q2" / "denoisers" / "assets"
SIZE = 32


def parser(
    description: str | None, steps: int, batch: int, lr: float, work: str = "digits-work"
) -> argparse.ArgumentParser:
    """Return an argument parser with the options that all trainings have."""
    result = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    result.add_argument("--work", type=Path, default=Path(work), help="folder for checkpoints and logs")
    result.add_argument("--assets", type=Path, default=ASSETS, help="folder that receives the finished models")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument("--threads", type=int, default=2)
    result.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu, or cuda")
    result.add_argument("--minutes", type=float, default=0, help="instead of --steps, as many as fit; not repeatable")
    result.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    result.add_argument("--steps", type=int, default=steps)
    result.add_argument("--batch", type=int, default=batch)
    result.add_argument("--lr", type=float, default=lr)
    return result


def digit_images() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's 1,797 digits as images (N, 1, 32, 32) in [0, 1], and their labels (N,)."""
    data = load_digits()
    small = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    large = F.interpolate(small, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    return large.clamp(0, 1), torch.tensor(data.target, dtype=torch.long)


def split(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of a stratified 80 % for training and of the 20 % held out."""
    train, test = train_test_split(range(len(labels)), test_size=0.2, stratify=labels, random_state=seed)
    return torch.tensor(train), torch.tensor(test)


def warp(images: Tensor, degrees: float, shift: float, zoom: float, generator: torch.Generator) -> Tensor:
    """Rotate, move (in pixels) and scale every image of (N, 1, H, W) by its own uniform draw."""
    count, size = len(images), images.shape[-1]
    angle, scale, x, y = 2 * torch.rand(4, count, generator=generator, device=images.device) - 1
    angle, scale = angle * math.radians(degrees), 1 + scale * zoom
    cos, sin = scale * angle.cos(), scale * angle.sin()
    step = 2 * shift / size
    theta = torch.stack([torch.stack([cos, -sin, x * step], 1), torch.stack([sin, cos, y * step], 1)], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", align_corners=False).clamp(0, 1)


def draw_latents(latents: Latents, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return which latents are drawn (`size`,), these without noise, noise of their shape, and times in [0, 1).

    Each of `size` equal strata has one time: less variance than independent draws.
    """
    means, deviations, labels = latents
    where: dict[str, Any] = {"generator": generator, "device": means.device}
    chosen = torch.randint(len(labels), (size,), **where)
    noise, jitter = torch.randn(2, size, *means.shape[1:], **where)
    times = (torch.arange(size, device=means.device) + torch.rand(size, **where)) / size
    return chosen, means[chosen] + deviations[chosen] * jitter, noise, times


def cosine_lr(optimizer: torch.optim.Optimizer, step: int, steps: int, peak: float, warmup: int) -> None:
    """Set the learning rate of a step: linear to `peak`, then a half cosine to zero."""
    share = max(0.0, (step - warmup) / max(1, steps - warmup))
    rate = peak * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    for group in optimizer.param_groups:
        group["lr"] = rate


def steady_lr(optimizer: torch.optim.Optimizer, step: int, steps: int, peak: float, warmup: int) -> None:
    """Set the learning rate of a step: linear to `peak`, constant, and linear to zero in the last quarter.

    Until then it does not depend on `steps`, so a run can be made longer or shorter while it is under way.
    """
    rate = peak * min(1.0, (step + 1) / warmup, 4 * (1 - step / steps))
    for group in optimizer.param_groups:
        group["lr"] = rate


class Average:
    """An exponential moving average of a model's parameters; the decay is ramped up from 0."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        live = [value.detach() for _, value in model.named_parameters()]
        torch._foreach_lerp_(list(self.shadow.values()), live, 1 - decay)


def save_checkpoint(
    path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
) -> None:
    """Write weights, their average and AdamW's state to one safetensors file, replacing it only when complete."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.shadow.items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state[parameter].items()}
    partial = path.with_suffix(".partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, partial, {"step": json.dumps(step)})
    partial.replace(path)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None
) -> int:
    """Restore what `save_checkpoint` wrote and return the number of steps done; 0 where there is no file."""
    if not path.exists():
        return 0
    tensors = load_file(path, device=str(next(model.parameters()).device))
    model.load_state_dict({name: tensors[f"model.{name}"] for name in model.state_dict()})
    if average is not None:
        average.shadow = {name: tensors[f"average.{name}"] for name in average.shadow}
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        optimizer.state[parameter] = {
            key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
        }
    with safe_open(path, framework="pt") as file:
        return int(json.loads(file.metadata()["step"]))


class Clock:
    """Print a line of numbers with the step, the speed and the time left."""

    def __init__(self, start: int, steps: int) -> None:
        self.start, self.steps, self.began = start, steps, time.monotonic()

    def line(self, step: int, **numbers: float) -> None:
        speed = self.speed(step)
        left = (self.steps - step) / max(speed, 1e-9) / 60
        text = "  ".join(f"{name} {value:.5f}" for name, value in numbers.items())
        print(f"step {step}/{self.steps}  {text}  {speed:.2f} steps/s  {left:.1f} min left", flush=True)

    def speed(self, step: int) -> float:
        return (step - self.start) / max(time.monotonic() - self.began, 1e-9)


def train(
    args: argparse.Namespace,
    model: nn.Module,
    path: Path,
    loss_of: Callable[[torch.Generator], Tensor],
    *,
    schedule: Schedule = cosine_lr,
    warmup: int = 100,
    second: float = 0.98,
    weight_decay: float = 0.01,
    average: Average | None = None,
    clip: float = 1.0,
) -> None:
    """Minimize `loss_of` a generator that every step seeds, with AdamW; go on from the checkpoint at `path`."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, betas=(0.9, second), weight_decay=weight_decay, fused=True
    )
    start = load_checkpoint(path, model, optimizer, average)
    clock, smooth = Clock(start, args.steps), torch.zeros((), device=args.device)
    step = start
    while step < clock.steps:
        schedule(optimizer, step, clock.steps, args.lr, warmup)
        loss = loss_of(torch.Generator(args.device).manual_seed(args.seed * 1_000_003 + step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if average is not None:
            average.update(model, step)
        step += 1
        smooth += (loss.detach() - smooth) * max(0.01, 1 / (step - start))
        if args.minutes and step == start + 200:
            clock.steps = step + int(clock.speed(step) * 60 * args.minutes)
        if step % 100 == 0:
            clock.line(step, loss=smooth.item())
        if step % args.every == 0 or step == clock.steps:
            save_checkpoint(path, step, model, optimizer, average)
