"""Judge what an embedded denoiser draws: in full precision, and with all its weights quantized by one option.

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
from torch import nn

import q2
from q2.denoisers import Samples
from q2.denoisers.picture import sheet
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


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    options.add_argument("--denoiser", default="digits-dit", help="or digits-sdxl, scenes-sd3")
    options.add_argument("--model", default="", help="a pipeline folder; the packaged one if not given")
    options.add_argument("--images", type=int, default=500)
    options.add_argument("--steps", type=int, default=12)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--grids", type=Path, help="folder for a picture of every row's first images")
    options.add_argument("--options", nargs="*", default=OPTIONS)
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    denoiser = q2.denoiser(args.denoiser, args.model, device="cpu")
    judge = denoiser.judge()
    assert judge is not None
    print(f"{len(weight_layers(denoiser.model))} weight layers, {args.steps} steps")
    print(f"{'weights':12} {'SQNR dB':>8} {'accuracy':>9} {'points':>7} {'pixel RMSE':>11}")

    def draw() -> Samples:
        return denoiser.generate(args.images, seed=args.seed, steps=args.steps)

    began = time.monotonic()
    reference = draw()
    labels = reference.labels
    seconds = time.monotonic() - began

    @torch.no_grad()
    def report(name: str, made: Samples, ratio: float) -> None:
        hits = judge(made.images).argmax(1) == labels
        points = 100 * (hits.float().mean().item() - full)
        distance = (made.images - reference.images).square().mean().sqrt().item()
        print(f"{name:12} {ratio:8.2f} {hits.float().mean():9.1%} {points:+7.1f} {distance:11.4f}", flush=True)
        if args.grids:
            args.grids.mkdir(parents=True, exist_ok=True)
            sheet([made.images], columns=20, gap=0, most=len(labels)).save(args.grids / f"{name}.png")

    with torch.no_grad():
        full = (judge(reference.images).argmax(1) == labels).float().mean().item()
    report("full", reference, float("inf"))
    for option in args.options:
        with quantized(denoiser.model, option) as ratio:
            report(option, draw(), ratio)
    print(f"{100 * seconds / len(labels):.1f} s per 100 images")


if __name__ == "__main__":
    main()
