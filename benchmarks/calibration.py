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
from q2.quant.base import Fitted, FittedWeight
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
        codes = (column[:, None] > edges).sum(1, keepdim=True)
        return levels.expand(len(column), -1).gather(1, codes)[:, 0]

    return nearest


def textbook(weight: Tensor, parts: list[Piece], bits: int, levels: Tensor | None = None) -> Tensor:
    """Return what GPTQ makes of a weight (O, n), piece by piece: on the min-max grid where no levels are given."""
    found = weight.clone()
    for piece in parts:
        if piece.gram.live:
            mine = weight[piece.outputs, piece.inputs]
            own = levels if levels is None or len(levels) == 1 else levels[piece.outputs]
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
    found = fitted.quantizer.levels(fitted.parameters, fitted.option.bits)
    assert found is not None
    return found.float()


def activations(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return rows (count, size) like a layer's inputs: a few directions that many share, some large inputs, a mean."""
    shared = torch.randn(count, 64, generator=generator) * torch.logspace(0.5, -0.5, 64)
    rows = shared @ torch.randn(64, size, generator=generator) / 8 + 0.5 * torch.randn(count, size, generator=generator)
    rows += 0.3 * torch.randn(size, generator=generator)
    return rows.mul_(torch.randn(size, generator=generator).mul(0.7).exp())


def plain(weight: Tensor) -> list[FittedWeight]:
    return [found for name in QUANTIZERS for found in builtin_quantizer(name).fit_each(weight, WIDTHS)]


def calibrated(weight: Tensor, problem: Problem) -> list[Fitted]:
    return [found for name in QUANTIZERS for found in fit_outputs(weight, builtin_quantizer(name), WIDTHS, problem)]


def decibels(weight: Tensor, parts: list[Piece]) -> Iterator[tuple[str, str, float]]:
    """Yield option, method and the ratio of signal to error of the outputs."""
    flat = weight.flatten(1).float()
    problem = Problem(flat, parts)

    def ratio(values: Tensor) -> float:
        error = float(problem.errors(values).sum())
        return 10 * math.log10(problem.signal / error) if error and problem.signal else math.inf

    for one, mine in zip(plain(weight), calibrated(weight, problem), strict=True):
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
    times: dict[str, list[float]] = {}

    def keep(name: str, work: Callable[[], Any]) -> Any:
        took, result = timed(work)
        times.setdefault(name, []).append(took)
        return result

    uaq = builtin_quantizer("uaq")
    for _ in range(rounds):
        keep("plain", lambda: plain(weight))
        parts = keep("moments", lambda: pieces(rows, weight.shape, 1 / count))
        keep("calibrated", lambda: calibrated(weight, Problem(weight, parts)))  # noqa: B023 (called at once)
        (one,) = keep("uaq-4, plain", lambda: uaq.fit_each(weight, [4]))
        keep("uaq-4, calibrated", lambda: fit_outputs(weight, uaq, [4], Problem(weight, parts)))  # noqa: B023
        moments = keep("H in float32, for GPTQ", lambda: rows.T @ rows / count)
        keep(f"uaq-4, {MINMAX}", lambda: gptq(weight, moments, grid(weight, 4)))  # noqa: B023
        keep(f"uaq-4, {LEVELS}", lambda: gptq(weight, moments, to_levels(levels_of(one))))  # noqa: B023
    times["calibrated, with moments"] = [sum(pair) for pair in zip(times["moments"], times["calibrated"], strict=True)]
    print(f"one {size} x {size} float32 layer, {count} rows, {rounds} rounds; six options where none is named")
    for name, measured in times.items():
        middle = statistics.median(measured)
        print(f"{name:32} {middle:8.3f} s ({min(measured):.3f} to {max(measured):.3f})")
    one_option = [("uaq-4, calibrated", f"uaq-4, {method}") for method in (MINMAX, LEVELS)]
    for name, other in [("calibrated", "plain"), ("calibrated, with moments", "plain"), *one_option]:
        ratios = [a / b for a, b in zip(times[name], times[other], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name} / {other}: {statistics.median(ratios):.2f} ({spread})")
    show({(option, method): value for option, method, value in decibels(weight, pieces(rows, weight.shape, 1 / count))})


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
    print(f"{name}: {len(store.layers)} layers, {time.perf_counter() - start:.0f} s for all; the mean over layers")
    exact = {i for values in found.values() for i, value in enumerate(values) if value == math.inf}
    if exact:
        print(f"without {len(exact)} layers that some option holds exactly")
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
    generator, took = torch.Generator().manual_seed(0), {"plain": 0.0, "moments": 0.0, "calibrated": 0.0}
    for each in chosen:
        one = layers[each]
        weight = torch.randn(one.shape, generator=generator).mul_(0.02).half()
        rows = activations(count, math.prod(one.shape[1:]) * one.groups, generator)
        took["plain"] += timed(lambda: plain(weight))[0]  # noqa: B023 (called at once)
        seconds, parts = timed(lambda: pieces(rows, weight.shape, 1.0))  # noqa: B023
        took["moments"] += seconds
        took["calibrated"] += timed(lambda: calibrated(weight, Problem(weight.flatten(1).float(), parts)))[0]  # noqa: B023
    done = sum(work[each] for each in chosen) / sum(work.values())
    weights = sum(layers[each].weights for each in chosen) / sum(one.weights for one in layers.values())
    firsts = set(groups_of({each: one.module for each, one in layers.items()}, readers(graph)).values())
    made = sum(making[each] for each in chosen) / sum(making[each] for each in firsts)
    shares = {"plain": weights, "moments": made, "calibrated": done}
    print(f"{name}: {len(chosen)} of {len(layers)} layers, {done:.3f} of outputs x inputs^2; six options, {count} rows")
    for key, part in took.items():
        print(f"{key:12} {part:8.1f} s, all layers about {part / shares[key] / 60:6.1f} min")
    print(f"peak RSS {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one, all_layers, full = (commands.add_parser(name) for name in ("layer", "network", "large"))
    one.add_argument("--size", type=int, default=1152)
    one.add_argument("--rounds", type=int, default=5)
    all_layers.add_argument("name", choices=("digits-dit", "digits-sdxl"))
    all_layers.add_argument("--rows-folder", type=Path)
    full.add_argument("--name", default="pixart-alpha")
    full.add_argument("--share", type=float, default=0.1)
    for each in (one, full):
        each.add_argument("--rows", type=int, default=4096)
    options = parser.parse_args()
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    small = torch.randn(8, 16)
    print(f"compiling: {timed(lambda: calibrated(small, Problem(small, pieces(small, small.shape, 1.0))))[0]:.1f} s")
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
