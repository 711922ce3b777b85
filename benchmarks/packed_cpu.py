"""Packed layers on a CPU: their compiled decoding beside the plain path, and beside full precision, in one run.

    OMP_NUM_THREADS=1 python -m benchmarks.packed_cpu [--rounds 5] [--part steps|layers]

The plain path unpacks codes and lets the quantizer decode them, as it does for quantizers without a kernel. Weights are
random codes. Times are CPU seconds of one thread, so that other processes count little: the median over rounds, in each
of which all three take turns; ratios are medians of the rounds' ratios, with their range.
"""

import argparse
import contextlib
import copy
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

import q2
from benchmarks.packed import random_layer, replace_layers
from q2.quant.packed import layers

SHAPES, TOKENS = ((1152, 1152), (4608, 1152)), (1, 16, 256, 1024)
OPTIONS, DTYPES = ("kmeans-c-4", "uaq-4", "kmeans-c-3", "uaq-2"), (torch.float32, torch.bfloat16)
MODELS, BATCHES = ("digits-dit", "digits-sdxl"), (1, 4)


@contextlib.contextmanager
def plain_path() -> Iterator[None]:
    """Decode without kernels meanwhile."""
    before = layers._decoder
    layers._decoder = lambda *_: None
    try:
        yield
    finally:
        layers._decoder = before


def seconds(work: Callable[[], Any], least: float = 0.02) -> float:
    """Return CPU seconds of a call, the mean over so many that they take `least` seconds."""
    calls, start = 0, time.thread_time()
    while calls < 1 or time.thread_time() - start < least:
        work()
        calls += 1
    return (time.thread_time() - start) / calls


def compare(what: str, packed: nn.Module, exact: Callable[[], Any], work: Callable[[], Any], rounds: int) -> None:
    """Print times of `work`, which runs the `packed` module, with and without kernels, and of `exact`."""

    def forget() -> None:
        for module in packed.modules():
            vars(module).pop("_ready", None)

    each: list[tuple[float, float, float]] = []
    for number in range(rounds + 1):
        forget()
        with plain_path():
            work()
            before = seconds(work)
        forget()
        work()
        row = before, seconds(work), seconds(exact)
        if number:  # the first compiles
            each.append(row)
    before, after, full = (statistics.median(column) for column in zip(*each, strict=True))
    faster, slower = [row[0] / row[1] for row in each], [row[1] / row[2] for row in each]
    print(
        f"{what:<34} {before * 1e3:8.2f} {after * 1e3:8.2f} {full * 1e3:8.2f} ms"
        f"   {statistics.median(faster):5.1f} times as fast ({min(faster):.1f} to {max(faster):.1f}),"
        f" {statistics.median(slower):.2f} of full precision's time ({min(slower):.2f} to {max(slower):.2f})",
        flush=True,
    )


def single(rounds: int) -> None:
    """Compare single Linear layers."""
    for channels, width in SHAPES:
        for dtype in DTYPES:
            for option in OPTIONS if channels == width else OPTIONS[:1]:
                packed: Any = random_layer(nn.Linear(width, channels, device="meta"), option)
                packed.bias = nn.Parameter(torch.zeros(channels), requires_grad=False)
                packed = packed.to(dtype)
                exact = layers.unpack_layer(packed)
                for count in TOKENS if option == OPTIONS[0] else TOKENS[1:2]:
                    x = torch.randn(count, width).to(dtype)
                    what = f"{channels}x{width} {option} {str(dtype)[6:]} {count}"
                    compare(what, packed, partial(exact, x), partial(packed, x), rounds)


def steps(rounds: int) -> None:
    """Compare steps of the digits' denoisers, whose layers are all of one option."""
    for name in MODELS:
        denoiser = q2.denoiser(name)
        exact = denoiser.model.float().eval()
        packed = copy.deepcopy(exact)
        replace_layers(packed, lambda layer: random_layer(layer, OPTIONS[0]).float())
        for batch in BATCHES:
            inputs = denoiser.example_inputs(batch=batch)
            compare(
                f"{name} {OPTIONS[0]}, batch {batch}",
                packed,
                partial(exact, **inputs),
                partial(packed, **inputs),
                rounds,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=("all", "steps", "layers"), default="all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    print(f"{platform.platform()}, torch {torch.__version__}, 1 thread; CPU ms: plain path, kernel, full precision")
    if given.part != "layers":
        steps(given.rounds)
    if given.part != "steps":
        single(given.rounds)


if __name__ == "__main__":
    main()
