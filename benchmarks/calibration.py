"""Calibrated options beside plain ones and beside textbook GPTQ: output errors, seconds, and a full-size denoiser.

    python benchmarks/calibration.py layer [--size 1152] [--rows 4096] [--rounds 5]
    python benchmarks/calibration.py network digits-dit|digits-sdxl [--rows-folder DIR]
    python benchmarks/calibration.py large [--name pixart-alpha] [--share 0.1]

`layer` fits one float32 layer with made-up rows; ratios are of times in one round. `network` fits all layers of an
embedded denoiser, with rows that `q2 calibrate` collects if none are named. `large` fits some layers of a full-size
denoiser with random fp16 weights and rows, and extrapolates. GPTQ (Frantar et al., ICLR'23) is in plain PyTorch: blocks
of 128, float32, act-order, damped by a hundredth of H's mean diagonal; on a min-max grid, and on the levels of q2's
plain fit. Output errors are counted with second moments that are not damped.
"""

import argparse
import functools
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
from timeit import timeit
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
PLAIN, MINMAX, LEVELS, OWN = METHODS = "plain", "GPTQ, min-max grid", "GPTQ, q2's plain levels", "calibrated"
Rounding = Callable[[Tensor], Tensor]  # the nearest level of each value of a column (O,)


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
    """Yield option, method and the ratio of signal to error of the outputs; all inputs are in one part."""
    flat, moments = weight.flatten(1).float(), undamped(parts[0].gram)
    problem = Problem(flat, parts)

    def ratio(values: Tensor) -> float:
        return OutputErrors(float(problem.errors(values).sum()), 0.0, problem.signal).sqnr_db

    for one, mine in zip(plain(weight), calibrated(weight, parts), strict=True):
        option = str(one.option)
        yield option, PLAIN, ratio(one.dequantize().flatten(1).float())
        if one.option.quantizer == "uaq":
            yield option, MINMAX, ratio(gptq(flat, moments, grid(flat, one.option.bits)))
        yield option, LEVELS, ratio(gptq(flat, moments, to_levels(levels_of(one))))
        yield option, OWN, ratio(mine.restore(weight).flatten(1).float())


def show(found: dict[tuple[str, str], float]) -> None:
    print(f"\n| output error, dB | {' | '.join(METHODS)} |\n| --- {'| --- ' * len(METHODS)}|")
    for option in dict.fromkeys(option for option, _ in found):
        cells = (f"{found[option, method]:.2f}" if (option, method) in found else "" for method in METHODS)
        print(f"| {option} | {' | '.join(cells)} |")


def layer(size: int, count: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, generator=generator) * 0.02
    rows = activations(count, size, generator)

    made = functools.partial(pieces, rows, weight.shape, 1 / count)
    parts, uaq = made(), builtin_quantizer("uaq")
    levels = levels_of(uaq.fit(weight, 4))
    works: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain(weight),
        "calibrated": lambda: calibrated(weight, parts),
        "calibrated, with moments": lambda: calibrated(weight, made()),
        f"uaq-4, {OWN}, with moments": lambda: fit_outputs(weight, uaq, [4], Problem(weight, made())),
        f"uaq-4, {MINMAX}, with H": lambda: gptq(weight, rows.T @ rows, grid(weight, 4)),
        f"uaq-4, {LEVELS}, with H": lambda: gptq(weight, rows.T @ rows, to_levels(levels)),
    }
    timer = time.process_time if torch.get_num_threads() == 1 else time.perf_counter  # others may use the machine
    found = [[timeit(work, timer=timer, number=1) for work in works.values()] for _ in range(rounds + 1)]
    times = dict(zip(works, zip(*found[1:], strict=True), strict=True))  # the first round compiles
    print(f"one {size} x {size} float32 layer, {count} rows, {rounds} rounds; six options where none is named")
    for name, measured in times.items():
        base = f"uaq-4, {OWN}, with moments" if name.startswith("uaq-4") else "plain"
        ratios = [mine / other for mine, other in zip(measured, times[base], strict=True)]
        for values, unit in ((measured, "s"), (ratios, f"x {base.split(', with', maxsplit=1)[0]}")):
            print(f"{statistics.median(values):7.3f} {unit} ({min(values):.3f} to {max(values):.3f})", end="  ")
        print(name)
    show({(option, method): value for option, method, value in decibels(weight, parts)})


def network(name: str, folder: Path) -> None:
    if not (folder / "index.json").exists():
        command = [sys.executable, "-m", "q2", "calibrate", "--config", f"{name}.toml", "--out", str(folder)]
        subprocess.run(command, check=True)
    model: Any = q2.denoiser(name).model
    store = RowStore.open(folder)
    found: dict[tuple[str, str], list[float]] = {}
    start = time.perf_counter()
    for each in store.layers:
        if rows := store.rows(each):
            weight: Tensor = model.get_submodule(each).weight
            parts = pieces(rows.values, weight.shape, rows.seen / (len(rows.values) * rows.images))
            ratios = list(decibels(weight.detach(), parts))
            if all(value < math.inf for *_, value in ratios):  # no option holds the layer exactly
                for option, method, value in ratios:
                    found.setdefault((option, method), []).append(value)
    used = len(found["uaq-4", PLAIN])
    print(f"{name}: {time.perf_counter() - start:.0f} s; means over {used} of {len(store.layers)} layers")
    show({key: statistics.fmean(values) for key, values in found.items()})


def large(name: str, share: float, count: int = 4096) -> None:
    denoiser = q2.denoiser(name, weights="meta")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    layers = dict(graph.weight_layers.items())
    inputs = {each: math.prod(one.shape[1:]) for each, one in layers.items()}
    block = {each: size / math.ceil(size / LONGEST) for each, size in inputs.items()}
    costs: dict[str, dict[str, float]] = {
        "plain": {each: one.weights for each, one in layers.items()},
        "moments": {each: inputs[each] * block[each] * (count + block[each]) for each in layers},
        "calibrated": {each: one.weights * block[each] for each, one in layers.items()},
    }
    order, every = sorted(layers, key=lambda each: (costs["calibrated"][each], each)), max(1, round(1 / share))
    chosen = order[every // 2 :: every]  # every n-th of those in order of work: of any shape its share
    small = torch.randn(128, 256)
    calibrated(small, pieces(small, small.shape, 1.0)), calibrated(small.half(), pieces(small, small.shape, 1.0))
    generator, times = torch.Generator().manual_seed(0), dict.fromkeys(costs, 0.0)
    for each in chosen:
        weight = torch.randn(layers[each].shape, generator=generator).mul_(0.02).half()
        rows = activations(count, inputs[each], generator)
        times["plain"] += timeit(lambda: plain(weight), number=1)  # noqa: B023 (called at once)
        start = time.perf_counter()
        parts = pieces(rows, weight.shape, 1.0)
        times["moments"] += time.perf_counter() - start
        times["calibrated"] += timeit(lambda: calibrated(weight, parts), number=1)  # noqa: B023
    firsts = set(groups_of({each: one.module for each, one in layers.items()}, readers(graph)).values())
    print(f"{name}: {len(chosen)} of {len(layers)} layers, six options, {count} rows")
    for key, cost in costs.items():
        done = sum(cost[each] for each in chosen) / sum(cost[each] for each in (firsts if key == "moments" else layers))
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
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if options.command == "layer":
        layer(options.size, options.rows, options.rounds)
    elif options.command == "large":
        large(options.name, options.share)
    else:
        with tempfile.TemporaryDirectory() as folder:
            network(options.name, options.rows_folder or Path(folder) / "rows")


if __name__ == "__main__":
    main()
