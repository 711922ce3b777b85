"""Judge what the denoiser draws: in full precision, and with all its weights quantized by one option.

Every image starts from its own noise, the same for every option, so rows differ by the weights alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from common import ASSETS
from diffusers import DiTPipeline
from PIL import Image
from torch import Tensor, nn

from q2.denoisers.judge import DigitsJudge
from q2.quant import fit

OPTIONS = ("uaq-4", "kmeans-c-4", "kmeans-a-4", "uaq-3", "kmeans-c-3", "kmeans-a-3", "uaq-2")


def weight_layers(model: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """Return the layers whose weights are quantized."""
    return [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]


@contextmanager
def quantized(model: nn.Module, option: str) -> Iterator[float]:
    """Quantize every weight layer inside the block; yield the signal-to-noise ratio of all weights in dB."""
    layers = weight_layers(model)
    originals = [layer.weight.detach().clone() for layer in layers]
    signal = noise = 0.0
    try:
        for layer, original in zip(layers, originals, strict=True):
            changed = fit(original, option).dequantize().to(original.dtype)
            signal += original.double().square().sum().item()
            noise += (changed - original).double().square().sum().item()
            layer.weight.data.copy_(changed)
        yield float(10 * np.log10(signal / noise))
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.weight.data.copy_(original)


def draw(pipeline: DiTPipeline, labels: Tensor, guidance: float, steps: int, seed: int, batch: int = 100) -> Tensor:
    """Return one image (1, 32, 32) in [0, 1] per label, each from noise of its own seed."""
    images = []
    for chosen in torch.arange(len(labels)).split(batch):
        generators = [torch.Generator().manual_seed(seed * 1_000_003 + int(index)) for index in chosen]
        result = pipeline(
            labels[chosen].tolist(),
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=generators,
            output_type="pt",
        )
        images.append(result.images)
    return torch.cat(images)


def save_grid(images: Tensor, path: Path, columns: int = 20, zoom: int = 2) -> None:
    """Write images (N, 1, H, W) row by row to one picture."""
    rows = [torch.cat(list(row), dim=2) for row in images.split(columns) if len(row) == columns]
    picture = torch.cat(rows, dim=1)[0].mul(255).round().byte().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.repeat(zoom, 0).repeat(zoom, 1)).save(path)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--model", type=Path, default=ASSETS / "digits-dit")
    options.add_argument("--judge", type=Path, default=ASSETS / "digits-judge")
    options.add_argument("--per-class", type=int, default=50, help="images of every digit")
    options.add_argument("--guidance", type=float, default=1.0)
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--grids", type=Path, help="folder for a picture of every row's first images")
    options.add_argument("--options", nargs="*", default=OPTIONS)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    pipeline = DiTPipeline.from_pretrained(args.model, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    judge = DigitsJudge.load(args.judge)
    labels = torch.arange(10).repeat(args.per_class)
    transformer = pipeline.transformer
    print(f"{len(weight_layers(transformer))} weight layers, {args.steps} steps, guidance {args.guidance}")
    print(f"{'weights':12} {'SQNR dB':>8} {'accuracy':>9} {'points':>7} {'pixel RMSE':>11}")

    began = time.monotonic()
    reference = draw(pipeline, labels, args.guidance, args.steps, args.seed)
    seconds = time.monotonic() - began

    @torch.no_grad()
    def report(name: str, images: Tensor, ratio: float) -> None:
        hits = judge(images).argmax(1) == labels
        points = 100 * (hits.float().mean().item() - full)
        distance = (images - reference).square().mean().sqrt().item()
        print(f"{name:12} {ratio:8.2f} {hits.float().mean():9.1%} {points:+7.1f} {distance:11.4f}", flush=True)
        if args.grids:
            save_grid(images, args.grids / f"{name}.png")

    with torch.no_grad():
        full = (judge(reference).argmax(1) == labels).float().mean().item()
    report("full", reference, float("inf"))
    for option in args.options:
        with quantized(transformer, option) as ratio:
            report(option, draw(pipeline, labels, args.guidance, args.steps, args.seed), ratio)
    print(f"{100 * seconds / len(labels):.1f} s per 100 images")


if __name__ == "__main__":
    main()
