"""What is measured: on a CPU, in one thread, on weights and trials that are made up."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.suite.measure import Measure, Work

__all__ = ["MEASURES"]

SIZE = 1152
Works = Iterator[tuple[Work, Work]]


def _weight(rows: int = SIZE) -> Tensor:
    return torch.randn(rows, SIZE, generator=torch.Generator().manual_seed(0)) * 0.02


@contextmanager
def bank_and_sorts() -> Works:
    from benchmarks.bank import own, sorting

    weight = _weight()
    yield partial(own, weight, 32), partial(sorting, weight.numpy())


@contextmanager
def bank_and_sklearn(rows: int) -> Works:
    """Fit so many rows; compare with KMeans of every row and of all, in both widths, and with the ten-point grid."""
    from benchmarks.bank import WIDTHS, own, reference_kmeans, reference_uaq

    weight = _weight(rows)
    plain = weight.numpy()

    def other() -> None:
        for bits in WIDTHS:
            for row in (*plain, plain.ravel()):
                reference_kmeans(row, bits)
            reference_uaq(weight, bits)

    yield partial(own, weight, 32), other


@contextmanager
def calibrated_and_plain() -> Works:
    from benchmarks.calibration import activations, calibrated, plain
    from q2.quant.calibration.gram import pieces

    size = 384
    weight = _weight(size)[:, :size].contiguous()
    rows = activations(1024, size, torch.Generator().manual_seed(1))
    parts = pieces(rows, weight.shape, 1 / len(rows))
    yield partial(calibrated, weight, parts), partial(plain, weight)


@contextmanager
def packed_layer_and_full(tokens: int, plain_path: bool = False) -> Works:
    from benchmarks.packed import random_layer
    from benchmarks.packed_cpu import plain_path as by_plain_operations
    from q2.quant.packed.layers import unpack_layer

    torch.manual_seed(0)
    packed: Any = random_layer(nn.Linear(SIZE, SIZE, device="meta"), "kmeans-c-4")
    packed.bias = nn.Parameter(torch.zeros(SIZE), requires_grad=False)
    packed, x = packed.float(), torch.randn(tokens, SIZE)

    def forget() -> None:
        vars(packed).pop("_ready", None)

    def without_kernel() -> None:
        with by_plain_operations():
            forget()
            packed(x)
        forget()

    if plain_path:
        yield partial(packed, x), without_kernel
    else:
        yield partial(packed, x), partial(unpack_layer(packed), x)


@contextmanager
def packed_step_and_full(name: str, batch: int) -> Works:
    import copy

    import q2
    from benchmarks.packed import random_layer, replace_layers

    torch.manual_seed(0)
    denoiser = q2.denoiser(name)
    exact = denoiser.model.float().eval()
    packed = copy.deepcopy(exact)
    replace_layers(packed, lambda layer: random_layer(layer, "kmeans-c-4").float())
    inputs = denoiser.example_inputs(batch=batch)
    yield partial(packed, **inputs), partial(exact, **inputs)


@contextmanager
def switching_and_copying() -> Works:
    """Switch one layer between two options that are fitted, as a search does; copy a weight as often."""
    from q2.quant import Option, builtin_quantizer
    from q2.quant.simulated import Part, Simulated, quantize_parts, switch_layer

    weight = _weight()
    options = [Option.parse(text) for text in ("kmeans-c-4", "kmeans-c-3")]
    fitted = [builtin_quantizer(o.quantizer).fit(weight, o.bits, 32).without_weight() for o in options]
    parts = [[Part(option, each)] for option, each in zip(options, fitted, strict=True)]
    layer = quantize_parts(nn.Linear(SIZE, SIZE).requires_grad_(False), parts[0], weight, keep=True)
    assert isinstance(layer, Simulated)
    here = torch.empty_like(weight)

    def switch() -> None:
        for each in (*parts[1:], parts[0]):
            switch_layer(layer, each, weight)

    def copying() -> None:
        for _ in parts:
            here.copy_(weight)

    yield switch, copying


@contextmanager
def attention_and_pyg() -> Works:
    from torch_geometric.nn import GATv2Conv

    from q2.search.predictor.attention import Messages

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    nodes, copies, width = 250, 32, 64
    edges = np.stack([rng.integers(0, nodes - 1, 700), rng.integers(1, nodes, 700)])
    conv = GATv2Conv(width, width)
    x = torch.randn(nodes * copies, width, requires_grad=True)
    rows = np.arange(nodes * copies).reshape(copies, nodes)
    fused, pyg = Messages(edges, nodes, "fused"), Messages(edges, nodes, "pyg")

    def step(messages: Messages) -> None:
        with torch.enable_grad():
            messages.through(conv, x, rows).square().mean().backward()

    yield partial(step, fused), partial(step, pyg)


@contextmanager
def store_and_json(count: int, layers: int) -> Works:
    from benchmarks.trials import write
    from q2.search.trials.store import TrialStore

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "trials"
        write(place, count, layers, 9)
        (segment,) = place.glob("*.jsonl")

        def other() -> None:
            with segment.open("rb") as file:
                for line in file:
                    json.loads(line)

        yield partial(TrialStore.read, place), other


@contextmanager
def building_and_sorting() -> Works:
    from benchmarks.build import groups
    from q2.search.building.knapsack import Knapsack
    from q2.search.objective.constraints import Constraint

    made = groups(0)[:40]
    bound = [Constraint("avg_bits", "<=", 3.5 * 40 / 243)]
    scores = [np.array(group.scores) for group in made]

    def other() -> None:
        for each in scores:
            np.sort(each)

    yield lambda: Knapsack(made).solve(bound), other


@contextmanager
def tracing_and_step() -> Works:
    import q2

    denoiser = q2.denoiser("digits-dit")
    inputs = denoiser.example_inputs()
    yield partial(q2.trace, denoiser.model, inputs), partial(denoiser.model, **inputs)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def help_and_python() -> Works:
    env = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(*args: str) -> None:
        subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL, env=env)

    yield partial(start, "-m", "q2", "--help"), partial(start, "-c", "pass")


_BANK = "fitting a 1152 × 1152 layer, all six options"
MEASURES = (
    Measure("bank-sorts", _BANK, "sorting it twice", bank_and_sorts, rounds=3, least=0.0, most=12.0),
    Measure(
        "bank-sklearn-rows",
        "fitting 16 rows of 1,152, all six options",
        "scikit-learn's KMeans and the ten-point grid",
        partial(bank_and_sklearn, 16),
        rounds=3,
    ),
    Measure(
        "bank-sklearn",
        _BANK,
        "scikit-learn's KMeans and the ten-point grid",
        partial(bank_and_sklearn, SIZE),
        quick=False,
        rounds=2,
        least=0.0,
        warms=False,
        most=1 / 60,
    ),
    Measure(
        "calibrated",
        "calibrated fit of a 384 × 384 layer, 1,024 rows",
        "its plain fit",
        calibrated_and_plain,
        rounds=3,
    ),
    Measure(
        "switching",
        "switching a 1152 × 1152 layer",
        "copying its weight",
        switching_and_copying,
        weights=2 * SIZE * SIZE,
    ),
    Measure(
        "packed-kernel",
        "a packed 1152 × 1152 Linear, 16 tokens, by its kernel",
        "by plain operations",
        partial(packed_layer_and_full, 16, plain_path=True),
    ),
    Measure(
        "packed-linear",
        "a packed 1152 × 1152 Linear, 256 tokens",
        "in full precision",
        partial(packed_layer_and_full, 256),
    ),
    Measure(
        "packed-step",
        "a packed step of digits-dit, batch 1",
        "in full precision",
        partial(packed_step_and_full, "digits-dit", 1),
    ),
    Measure(
        "packed-step-sdxl",
        "a packed step of digits-sdxl, batch 4",
        "in full precision",
        partial(packed_step_and_full, "digits-sdxl", 4),
        quick=False,
    ),
    Measure(
        "attention",
        "the predictor's attention, forward and backward",
        "PyTorch Geometric's GATv2Conv",
        attention_and_pyg,
    ),
    Measure(
        "store",
        "opening a store of 1,000 trials of 200 layers",
        "parsing its lines as JSON",
        partial(store_and_json, 1000, 200),
    ),
    Measure(
        "store-large",
        "opening a store of 10,000 trials of 812 layers",
        "parsing its lines as JSON",
        partial(store_and_json, 10_000, 812),
        quick=False,
        rounds=3,
    ),
    Measure(
        "building",
        "the best recipe of 40 units of 7,776 variants within a budget",
        "sorting their scores",
        building_and_sorting,
        rounds=3,
    ),
    Measure("tracing", "tracing digits-dit", "a step of it", tracing_and_step, rounds=3),
    Measure("start", "`q2 --help`", '`python -c "pass"`', help_and_python, rounds=5, clock=_children, least=0.0),
)
