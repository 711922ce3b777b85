"""Calibrated options beside plain ones and beside textbook GPTQ: output errors, seconds, and a full-size denoiser.

    python benchmarks/calibration.py layer [--size 1152] [--rows 4096] [--rounds 5]
    python benchmarks/calibration.py network digits-dit|digits-sdxl [--rows-folder DIR]
    python benchmarks/calibration.py large [--name pixart-alpha] [--share 0.1]

`layer` fits one float32 layer with made-up rows; ratios are of times measured in one round. `network` fits all layers
of an embedded denoiser with the rows in DIR, or with rows that `q2 calibrate` collects. `large` fits a part of a
full-size denoiser's layers, with random fp16 weights and rows, and extrapolates. GPTQ (Frantar et al., ICLR'23) is in
plain PyTorch: blocks of 128, float32, act-order, the diagonal damped by a hundredth of its mean; it rounds to a min-max
grid, and to the levels of q2's plain fit. Output errors are counted with second moments that are not damped.
"""

import argparse
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import q2
from q2.graph.sharing import readers
from q2.quant import builtin_quantizer
from q2.quant.base import Fitted, FittedWeight, OutputErrors
from q2.quant.calibration.collect import groups_of
from q2.quant.calibration.fit import fit_outputs
from q2.quant.calibration.gram import LONGEST, Gram, Piece, pieces
from q2.quant.calibration.problem import Problem
from q2.quant.calibration.rows import RowStore

QUANTIZERS, WIDTHS = ("uaq", "kmeans-c", "kmeans-a"), (4, 3)
PLAIN, MINMAX, LEVELS, OWN = "plain", "GPTQ, min-max grid", "GPTQ, q2's plain levels", "calibrated"
Rounding = Callable[[Tensor], Tensor]
"""Returns the level nearest to each value of a column (O,)."""


@torch.no_grad()
def gptq(weight: Tensor, moments: Tensor, nearest: Rounding, damping: float = 0.01, block: int = 128) -> Tensor:
    """Return the quantized weight (O, n), float32, for H (n, n) of its inputs."""
    moments, left = moments.clone(), weight.float().clone()
    dead = moments.diagonal() == 0
    moments.diagonal()[dead], left[:, dead] = 1, 0
    order = moments.diagonal().argsort(descending=True)
    moments, left = moments[order][:, order], left[:, order]
    moments.diagonal().add_(damping * moments.diagonal().mean())
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(moments)), upper=True)
    found = torch.empty_like(left)
    for start in range(0, left.shape[1], block):
        stop = min(start + block, left.shape[1])
        part, errors = left[:, start:stop].clone(), torch.empty(len(left), stop - start)
        for j in range(stop - start):
            row = factor[start + j, start:stop]
            found[:, start + j] = nearest(part[:, j])
            errors[:, j] = (part[:, j] - found[:, start + j]) / row[j]
            part[:, j:] -= errors[:, j : j + 1] @ row[None, j:]
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return found[:, order.argsort()]


def grid(weight: Tensor, bits: int) -> Rounding:
    """Round to evenly spaced levels from each row's least value, or 0, to its largest."""
    low, high = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp_min(1e-12)
    zero = (-low / scale).round()
    return lambda column: (((column / scale).round() + zero).clamp(0, 2**bits - 1) - zero) * scale


def to_levels(levels: Tensor) -> Rounding:
    """Round to levels (O or 1, k)."""
    edges = ((levels[:, 1:] + levels[:, :-1]) / 2).contiguous()

    def nearest(column: Tensor) -> Tensor:
        return levels.expand(len(column), -1).gather(1, (column[:, None] > edges).sum(1, keepdim=True))[:, 0]

    return nearest


def textbook(weight: Tensor, parts: list[Piece], bits: int, levels: Tensor | None = None) -> Tensor:
    """Return what GPTQ makes of a weight (O, n), piece by piece: on the min-max grid where no levels are given."""
    found = weight.clone()
    for piece in parts:
        if piece.gram.live:
            mine = weight[piece.outputs, piece.inputs]
            own = None if levels is None else levels.expand(len(weight), -1)[piece.outputs]
            nearest = grid(weight[piece.outputs], bits) if own is None else to_levels(own)
            found[piece.outputs, piece.inputs] = gptq(mine, undamped(piece.gram), nearest)
    return found


def undamped(gram: Gram) -> Tensor:
    """Return H in the weight's order."""
    back = gram.order.argsort()
    moments = gram.matrix[back][:, back]
    moments.diagonal().sub_(gram.damping).clamp_(min=0)
    return moments


def levels_of(fitted: Fitted) -> Tensor:
    found: Any = fitted.quantizer.levels(fitted.parameters, fitted.option.bits)
    return found.float()  # type: ignore[no-any-return]


def activations(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return rows (count, size) like a layer's inputs: a few directions that many share, some large inputs, a mean."""
    shared = torch.randn(count, 64, generator=generator) * torch.logspace(0.5, -0.5, 64)
    rows = shared @ torch.randn(64, size, generator=generator) / 8 + 0.5 * torch.randn(count, size, generator=generator)
    rows += 0.3 * torch.randn(size, generator=generator)
    return rows.mul_(torch.randn(size, generator=generator).mul(0.7).exp())


def plain(weight: Tensor) -> list[FittedWeight]:
    return [found for name in QUANTIZERS for found in builtin_quantizer(name).fit_each(weight, WIDTHS)]


def calibrated(weight: Tensor, parts: list[Piece]) -> list[Fitted]:
    problem = Problem(weight.flatten(1).float(), parts)
    return [found for name in QUANTIZERS for found in fit_outputs(weight, builtin_quantizer(name), WIDTHS, problem)]


def decibels(weight: Tensor, parts: list[Piece]) -> Iterator[tuple[str, str, float]]:
    """Yield option, method and the ratio of signal to error of the outputs."""
    flat = weight.flatten(1).float()
    problem = Problem(flat, parts)

    def ratio(values: Tensor) -> float:
        return OutputErrors(float(problem.errors(values).sum()), 0.0, problem.signal).sqnr_db

    for one, mine in zip(plain(weight), calibrated(weight, parts), strict=True):
        option, bits = str(one.option), one.option.bits
        yield option, PLAIN, ratio(one.dequantize().flatten(1).float())
        if one.option.quantizer == "uaq":
            yield option, MINMAX, ratio(textbook(flat, parts, bits))
        yield option, LEVELS, ratio(textbook(flat, parts, bits, levels_of(one)))
        yield option, OWN, ratio(mine.restore(weight).flatten(1).float())


def show(found: dict[tuple[str, str], float]) -> None:
    """Print a Markdown table of decibels."""
    methods = (PLAIN, MINMAX, LEVELS, OWN)
    print(f"\n| output error, dB | {' | '.join(methods)} |\n| --- {'| --- ' * len(methods)}|")
    for option in dict.fromkeys(option for option, _ in found):
        cells = (f"{found[option, method]:.2f}" if (option, method) in found else "" for method in methods)
        print(f"| {option} | {' | '.join(cells)} |")


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def layer(size: int, count: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, generator=generator) * 0.02
    rows = activations(count, size, generator)

    def made() -> list[Piece]:
        return pieces(rows, weight.shape, 1 / count)

    parts, uaq = made(), builtin_quantizer("uaq")
    levels = levels_of(uaq.fit(weight, 4))
    works: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(weight),
        "moments alone": made,
        "calibrated": lambda: calibrated(weight, parts),
        "calibrated, with moments": lambda: calibrated(weight, made()),
        f"uaq-4, {OWN}, with moments": lambda: fit_outputs(weight, uaq, [4], Problem(weight, made())),
        f"uaq-4, {MINMAX}, with H": lambda: gptq(weight, rows.T @ rows, grid(weight, 4)),
        f"uaq-4, {LEVELS}, with H": lambda: gptq(weight, rows.T @ rows, to_levels(levels)),
    }
    found = [[timed(work)[0] for work in works.values()] for _ in range(rounds + 1)]
    times = dict(zip(works, zip(*found[1:], strict=True), strict=True))  # the first round compiles
    print(f"one {size} x {size} float32 layer, {count} rows, {rounds} rounds; six options where none is named")
    for name, measured in times.items():
        ratios = [mine / least for mine, least in zip(measured, times["plain"], strict=True)]
        for values, unit in ((measured, "s"), (ratios, "x plain")):
            print(f"{statistics.median(values):9.3f} {unit} ({min(values):.3f} to {max(values):.3f})", end="  ")
        print(name)
    own, *others = (times[name] for name in works if name.startswith("uaq-4"))
    for method, other in zip((MINMAX, LEVELS), others, strict=True):
        ratios = [mine / least for mine, least in zip(own, other, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"uaq-4, {OWN}: {statistics.median(ratios):.2f} x the time of {method} ({spread})")
    show({(option, method): value for option, method, value in decibels(weight, parts)})


def network(name: str, folder: Path) -> None:
    if not (folder / "index.json").exists():
        command = ["-m", "q2", "calibrate", "--config", f"{name}.toml", "--out", str(folder)]
        subprocess.run([sys.executable, *command], check=True)
    model, store = q2.denoiser(name).model, RowStore.open(folder)
    found: dict[tuple[str, str], list[float]] = {}
    start = time.perf_counter()
    for each in store.layers:
        rows, weight = store.rows(each), model.get_submodule(each).weight
        assert isinstance(weight, Tensor)
        if rows is not None:
            parts = pieces(rows.values, weight.shape, rows.seen / (len(rows.values) * rows.images))
            for option, method, value in decibels(weight.detach(), parts):
                found.setdefault((option, method), []).append(value)
    exact = {i for values in found.values() for i, value in enumerate(values) if value == math.inf}
    print(f"{name}: {len(store.layers)} layers, {time.perf_counter() - start:.0f} s; means over layers, without the")
    print(f"{len(exact)} that some option holds exactly")
    show({key: statistics.fmean(v for i, v in enumerate(values) if i not in exact) for key, values in found.items()})


def large(name: str, share: float, count: int) -> None:
    denoiser = q2.denoiser(name, weights="meta")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    layers = dict(graph.weight_layers.items())
    work, making = {}, {}
    for each, one in layers.items():
        inputs = math.prod(one.shape[1:])
        block = inputs / math.ceil(inputs / LONGEST)
        work[each], making[each] = one.shape[0] * inputs * block, one.groups * inputs * block * (count + block)
    order, every = sorted(layers, key=lambda each: (work[each], each)), max(1, round(1 / share))
    chosen = order[every // 2 :: every]  # every n-th of those in order of work: of any shape its share
    small = torch.randn(128, 256)
    calibrated(small, pieces(small, small.shape, 1.0)), calibrated(small.half(), pieces(small, small.shape, 1.0))
    generator, times = torch.Generator().manual_seed(0), dict.fromkeys(("plain", "moments", "calibrated"), 0.0)
    for one in map(layers.__getitem__, chosen):
        weight = torch.randn(one.shape, generator=generator).mul_(0.02).half()
        rows = activations(count, math.prod(one.shape[1:]) * one.groups, generator)
        seconds, parts = timed(lambda: pieces(rows, weight.shape, 1.0))  # noqa: B023 (called at once)
        times["moments"] += seconds
        times["plain"] += timed(lambda: plain(weight))[0]  # noqa: B023
        times["calibrated"] += timed(lambda: calibrated(weight, parts))[0]  # noqa: B023
    firsts = set(groups_of({each: one.module for each, one in layers.items()}, readers(graph)).values())
    weights = {each: float(one.weights) for each, one in layers.items()}
    costs = {"plain": (weights, set(layers)), "moments": (making, firsts), "calibrated": (work, set(layers))}
    print(f"{name}: {len(chosen)} of {len(layers)} layers, six options, {count} rows")
    for key, (cost, needed) in costs.items():
        done = sum(cost[each] for each in chosen) / sum(cost[each] for each in needed)
        print(f"{key:12} {times[key]:7.1f} s for {done:.4f} of it, all about {times[key] / done / 60:6.1f} min")
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one, network_of, full = (commands.add_parser(name) for name in ("layer", "network", "large"))
    one.add_argument("--size", type=int, default=1152)
    one.add_argument("--rounds", type=int, default=5)
    network_of.add_argument("name", choices=("digits-dit", "digits-sdxl"))
    network_of.add_argument("--rows-folder", type=Path)
    full.add_argument("--name", default="pixart-alpha")
    full.add_argument("--share", type=float, default=0.1)
    one.add_argument("--rows", type=int, default=4096)
    full.add_argument("--rows", type=int, default=4096)
    options = parser.parse_args()
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if options.command == "layer":
        layer(options.size, options.rows, options.rounds)
    elif options.command == "large":
        large(options.name, options.share, options.rows)
    else:
        with tempfile.TemporaryDirectory() as folder:
            network(options.name, options.rows_folder or Path(folder) / "rows")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
