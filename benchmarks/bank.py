"""Time and errors of fitting all six options of one layer, side by side in one run.

    python benchmarks/bank.py [--size 1152] [--rounds 5] [--rows 200]

Against the reference's way (scikit-learn's KMeans once per output channel and once for the tensor, its ten-point grid
in plain PyTorch), against kmeans1d (exact, one row after the other), and against sorting the weight twice with NumPy
(per row and flat), below which no exact method can be. scikit-learn and kmeans1d are run on `rows` channels and scaled
up. Needs ``pip install kmeans1d scikit-learn``.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from q2.quant import builtin_quantizer
from q2.quant.base import FittedWeight

WIDTHS = (4, 3)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def own(weight: Tensor, prec: int) -> list[FittedWeight]:
    names = ("uaq", "kmeans-c", "kmeans-a")
    return [fitted for name in names for fitted in builtin_quantizer(name).fit_each(weight, WIDTHS, prec)]


def reference_uaq(weight: Tensor, bits: int) -> Tensor:
    """The ten-point grid, channel by channel at once."""
    best, kept = torch.full((len(weight),), torch.inf), torch.zeros_like(weight)
    for i in torch.linspace(0, 90, 10).tolist():
        low, high = (edge * (1 - i / 100) for edge in (weight.amin(1), weight.amax(1)))
        delta = ((high - low) / (2**bits - 1)).clamp_min(1e-12)
        zero = (-low / delta).round()
        codes = ((weight / delta[:, None]).round() + zero[:, None]).clamp(0, 2**bits - 1)
        values = (codes - zero[:, None]) * delta[:, None]
        error = (weight - values).abs().pow(2.4).mean(1)
        better = error < best
        best, kept = torch.where(better, error, best), torch.where(better[:, None], values, kept)
    return kept


def reference_kmeans(values: np.ndarray, bits: int) -> np.ndarray:
    found = KMeans(min(2**bits, len(values)), max_iter=100, n_init=1, random_state=0).fit(values[:, None])
    restored: np.ndarray = found.cluster_centers_[found.labels_, 0]
    return restored


def sorting(weight: np.ndarray) -> None:
    np.sort(weight, axis=1)
    np.sort(weight.ravel())


def report(name: str, times: list[float], floor: list[float]) -> None:
    ratios = [mine / least for mine, least in zip(times, floor, strict=True)]
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
    print(f"{name:34} {statistics.median(times):9.3f} s   {statistics.median(ratios):9.1f} x sorting ({spread})")


def errors(name: str, weight: Tensor, rows: int) -> None:
    """Print how much above ours the reference's squared errors are; uaq by |x - x'|^2.4."""
    weight = weight[:rows]
    line = []
    for fitted in own(weight, 32):
        option, bits = fitted.option, fitted.option.bits
        if option.quantizer == "uaq":
            other = float((weight - reference_uaq(weight, bits)).double().abs().pow(2.4).mean())
            mine = fitted.l24
        else:
            parts = weight.numpy() if option.quantizer == "kmeans-c" else weight.numpy().reshape(1, -1)
            restored = np.stack([reference_kmeans(part, bits) for part in parts])
            other, mine = float(np.mean((parts - restored).astype(np.float64) ** 2)), fitted.mse
        line.append(f"{option} {100 * (other / mine - 1) if mine else 0:+.2f} %")
    print(f"  {name:14} {'  '.join(line)}")


def main() -> None:
    import kmeans1d

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=1152)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=200, help="channels that scikit-learn and kmeans1d are run on")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(options.size, options.size, generator=generator) * 0.02
    plain, rows = weight.numpy(), min(options.rows, options.size)
    scale = options.size / rows
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}")
    print(f"one {options.size} x {options.size} float32 layer, six options, {options.rounds} rounds")
    print(f"compiling, once per machine: {seconds(lambda: own(weight[:8], 32)):.1f} s")
    times: dict[str, list[float]] = {name: [] for name in ("q2", "sorting", "scikit-learn + grid", "kmeans1d")}
    for _ in range(options.rounds):
        times["sorting"].append(min(seconds(lambda: sorting(plain)) for _ in range(3)))
        times["q2"].append(seconds(lambda: own(weight, 32)))
        slow = seconds(lambda: [reference_kmeans(row, bits) for bits in WIDTHS for row in plain[:rows]]) * scale
        slow += seconds(lambda: [reference_kmeans(plain.ravel(), bits) for bits in WIDTHS])
        slow += seconds(lambda: [reference_uaq(weight, bits) for bits in WIDTHS])
        times["scikit-learn + grid"].append(slow)
        exact = seconds(lambda: [kmeans1d.cluster(row, 2**bits) for bits in WIDTHS for row in plain[:rows].tolist()])
        times["kmeans1d"].append(exact * scale)
    for name, measured in times.items():
        label = {"kmeans1d": "kmeans1d (kmeans-c alone)"}.get(name, name)
        report(label, measured, times["sorting"])
    ratios = [a / b for a, b in zip(times["scikit-learn + grid"], times["q2"], strict=True)]
    print(f"q2 is {statistics.median(ratios):.0f} times faster ({min(ratios):.0f} to {max(ratios):.0f})")
    worst = 0.0
    fitted = builtin_quantizer("kmeans-c").fit_each(weight[:rows], WIDTHS, 32)
    for found in fitted:
        restored = found.dequantize().double().numpy()
        for row, mine in zip(plain[:rows].astype(np.float64), restored, strict=True):
            result = kmeans1d.cluster(row, 2**found.option.bits)
            best = float(((row - np.array(result.centroids)[result.clusters]) ** 2).sum())
            worst = max(worst, abs(float(((row - mine) ** 2).sum()) / best - 1))
    print(f"kmeans-c against kmeans1d's optimum, {2 * rows} codebooks: at most {worst:.1e} away")
    print("errors of the reference above ours:")
    constant = weight.clone()
    constant[::2] = torch.linspace(-1, 1, len(constant[::2]))[:, None]
    heavy = torch.distributions.StudentT(3.0).sample(weight.shape) * 0.02
    real = torch.cat([part.flatten() for part in _digits()])[: 48 * options.size].reshape(48, options.size)
    for name, other in (
        ("Gaussian", weight),
        ("heavy-tailed", heavy),
        ("half constant", constant),
        ("digits-dit", real),
    ):
        errors(name, other, 48)


def _digits() -> list[Tensor]:
    import q2

    model = q2.denoiser("digits-dit").model
    return [module.weight.float() for module in model.modules() if isinstance(module, torch.nn.Linear)]


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
