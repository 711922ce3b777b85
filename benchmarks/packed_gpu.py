"""Packed layers on a GPU: decoding kernels alone, and a step of full-size denoisers, beside float16.

    python -m benchmarks.packed_gpu [--part layers|steps|host|sweep] [--json FILE] [--seconds 60] [--tiny]

Weights are random codes. Times are medians of `triton.testing.do_bench`, which empties the cache before every call, in
µs; a step's are medians of whole calls, as they are and replayed as a CUDA graph, in ms. Every product is compared with
one of float64 first. `--tiny` tries it all on small shapes, on a CPU in Triton's interpreter (TRITON_INTERPRET=1).
`--sweep` times tiles of the kernels, for the constants in q2/quant/kernels/fused.py.
"""

import argparse
import contextlib
import json
import platform
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.packed import filled, random_layer
from q2.graph.layers import WEIGHT_TYPES
from q2.quant.kernels import fused
from q2.quant.kernels.fused import Tile
from q2.quant.packed.layers import Packed, unpack_layer

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = ((1152, 1152), (4608, 1152), (1152, 4608), (640, 640), (1280, 1280), (1280, 2048), (10240, 1280))
ROWS = (1, 2, 4, 8, 16, 32, 120, 1024, 4096)
OPTIONS = ("uaq-4", "kmeans-c-4")
OTHERS = ("uaq-2", "uaq-3", "kmeans-c-2", "kmeans-c-3", "kmeans-a-4")  # of one shape
OTHER_SHAPE, OTHER_ROWS = (4608, 1152), (1, 8, 1024)
TILES = {"row": fused._ROW, "16": fused._ROWS}
FUSED_TO = {"row": 4, "16": 120}  # rows up to which a tile is tried
SWEPT = (
    *(Tile(1, channels, inputs) for channels, inputs in ((4, 512), (8, 256), (2, 512), (2, 1024))),
    *(Tile(16, channels, inputs, stages=stages) for channels in (16, 32) for inputs in (128, 256) for stages in (2, 3)),
    *(Tile(16, 16, 512, stages=2), Tile(16, 16, 256, 8, 2), Tile(32, 16, 256, stages=2)),
)
BATCHES, STEPS = (1, 2, 8), {"pixart-alpha": ("kmeans-c-4", "uaq-4"), "sdxl": ("kmeans-c-4",)}
WRONG = 1e-3  # relative error of float16
rows_out: list[dict[str, Any]] = []
failed: list[str] = []


def note(**row: Any) -> None:
    """Keep a row for the file, and print it."""
    rows_out.append(row)
    print(*(f"{value:.2f}" if isinstance(value, float) else value for value in row.values()), flush=True)


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """Print what fails, and go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        failed.append(f"{what}: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}")
        print("FAILED", what, traceback.format_exc(limit=-4), flush=True)


def bench(work: Callable[[], Any]) -> float:
    """Return the median time of a call in µs."""
    if DEVICE == "cuda":
        from triton.testing import do_bench

        return float(do_bench(work, warmup=4, rep=16, return_mode="median")) * 1e3
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e6


def sync() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


class Case:
    """A packed float16 Linear with random codes, and what its product should be."""

    def __init__(self, shape: tuple[int, int], option: str) -> None:
        channels, width = shape
        self.shape, self.option = shape, option
        self.layer: Any = random_layer(nn.Linear(width, channels, bias=False, device="meta"), option, DEVICE)
        bias = torch.randn(channels, device=DEVICE, dtype=torch.float16)
        self.layer.bias = nn.Parameter(bias, requires_grad=False)
        self.part = self.layer.parts[0]
        self.kind, self.bits = self.part.quantizer.code, self.part.option.bits
        self.held = self.layer.held(0)
        self.weight = torch.empty(shape, dtype=torch.float16, device=DEVICE)
        first, zero = (self.held[each] for each in fused.NAMES[self.kind])
        self.tensors = self.held["codes"], first, zero
        self.fill = fused.prepare(self.kind, *self.tensors, bits=self.bits, dtype=torch.float16)
        self.decode()
        self.check_weight()

    def decode(self) -> None:
        """Decode into the weight that is kept."""
        self.fill(*self.tensors, self.weight)

    def check_weight(self) -> None:
        """Raise unless the kernel decoded what the plain path on the CPU does."""
        held = {name: tensor.cpu() for name, tensor in self.held.items()}
        plain = self.part.decode(self.shape, held, torch.float16)
        assert torch.equal(plain, self.weight.cpu()), f"{self.option} {self.shape}: other values than the plain path's"

    def twice(self, x: Tensor) -> Tensor:
        """Decode, then multiply."""
        weight = torch.empty(self.shape, dtype=torch.float16, device=DEVICE)
        self.fill(*self.tensors, weight)
        return F.linear(x, weight, self.layer.bias)

    def once(self, x: Tensor, tile: Tile) -> Tensor:
        """Decode and multiply in one kernel."""
        options: Any = {"bits": self.bits, "bias": self.layer.bias, "channels": self.shape[0], "tile": tile}
        return fused.linear(self.kind, x, self.held["codes"], self.held, **options)

    def check(self, x: Tensor, found: Tensor) -> float:
        """Return the relative error of a product; raise where it is wrong."""
        exact = x[:512].double() @ self.weight.double().T + self.layer.bias.double()
        error = float((found[:512].double() - exact).norm() / exact.norm())
        assert error < WRONG, f"relative error {error:.1e}"
        return error


def layers(tiny: bool, ends: float) -> None:
    """Time products of the layers of PixArt, Hunyuan and SDXL."""
    shapes, rows = (((24, 48),), (1, 8)) if tiny else (SHAPES, ROWS)
    jobs: list[tuple[Any, tuple[str, ...], tuple[int, ...]]] = [(shape, OPTIONS, rows) for shape in shapes]
    jobs.append(((24, 48) if tiny else OTHER_SHAPE, OTHERS, rows if tiny else OTHER_ROWS))
    for shape, options, counts in jobs:
        plain: dict[int, float] = {}
        for option in options:
            with going_on(f"{option} {shape}"):
                case = Case(shape, option)
                note(part="decode", shape=shape, option=option, us=bench(case.decode))
                for count in counts:
                    if time.perf_counter() > ends:
                        failed.append(f"{option} {shape}, {count} rows: left out, the time is over")
                        continue
                    x = torch.randn(count, shape[1], device=DEVICE, dtype=torch.float16)
                    if count not in plain:
                        plain[count] = bench(partial(F.linear, x, case.weight, case.layer.bias))
                    product(case, x, plain[count])


def product(case: Case, x: Tensor, plain: float) -> None:
    """Time one product in every way."""
    count = len(x)
    times: dict[str, float] = {}
    with going_on(f"{case.option} {case.shape}, {count} rows, decoded"):
        case.check(x, case.twice(x))
        times["twice"] = bench(partial(case.twice, x))
    for name, tile in TILES.items():
        if count > FUSED_TO[name]:
            continue
        with going_on(f"{case.option} {case.shape}, {count} rows, tile {name}"):
            case.check(x, case.once(x, tile))
            times[name] = bench(partial(case.once, x, tile))
    best = min(times, key=lambda name: times[name], default="none")
    ratio = times.get(best, 0.0) / plain
    note(part="product", shape=case.shape, option=case.option, rows=count, f16=plain, **times, best=best, ratio=ratio)


def host(tiny: bool) -> None:
    """Time what a call takes on the host, in µs: a small layer, and no waiting for the GPU."""
    shape = (24, 48) if tiny else (640, 640)
    case = Case(shape, "kmeans-c-4")
    x = torch.randn(8, shape[1], device=DEVICE, dtype=torch.float16)
    many = torch.randn(1024, shape[1], device=DEVICE, dtype=torch.float16)
    exact = unpack_layer(cast(nn.Module, case.layer))
    works: dict[str, Callable[[], Any]] = {"float16": lambda: exact(x), "fused": lambda: case.layer(x)}
    works |= {"decoded": lambda: case.layer(many), "decoding alone": case.decode}
    for name, work in works.items():
        with going_on(f"host, {name}"), torch.no_grad():
            work()
            times = []
            for _ in range(2 if tiny else 7):
                sync()
                start = time.perf_counter()
                for _ in range(1 if tiny else 100):
                    work()
                times.append((time.perf_counter() - start) / (1 if tiny else 100) * 1e6)
            note(part="host", what=name, us=statistics.median(times), least=min(times))


def inputs_of(name: str, batch: int, tiny: bool) -> dict[str, Any]:
    """Return the arguments of a step: PixArt at 512², SDXL at 1024²."""
    side = 8 if tiny else {"pixart-alpha": 64, "sdxl": 128}[name]
    half: dict[str, Any] = {"dtype": torch.float16, "device": DEVICE}
    latents, steps = torch.randn(batch, 4, side, side, **half), torch.full((batch,), 500, device=DEVICE)
    if name == "pixart-alpha":
        text = torch.randn(batch, 120, 16 if tiny else 4096, **half)
        more = {"resolution": None, "aspect_ratio": None}
        return {"hidden_states": latents, "encoder_hidden_states": text, "timestep": steps, "added_cond_kwargs": more}
    added = {"text_embeds": torch.randn(batch, 1280, **half), "time_ids": torch.randn(batch, 6, **half)}
    text = torch.randn(batch, 77, 2048, **half)
    return {"sample": latents, "timestep": steps, "encoder_hidden_states": text, "added_cond_kwargs": added}


def step_times(model: Any, inputs: dict[str, Any], tiny: bool) -> tuple[Tensor, float, float]:
    """Return the result, and ms of a call: as it is, and replayed as a CUDA graph."""

    def call() -> Tensor:
        return cast(Tensor, model(**inputs, return_dict=False)[0])

    def median(work: Callable[[], Any]) -> float:
        times: list[float] = []
        began = time.perf_counter()
        while len(times) < 3 or (len(times) < 12 and time.perf_counter() - began < 0.5 and not tiny):
            sync()
            start = time.perf_counter()
            work()
            sync()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)

    result = call()
    eager = median(call)
    if DEVICE != "cuda":
        return result, eager, 0.0
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        call()
    replayed = median(graph.replay)
    del graph
    return result, eager, replayed


def steps(tiny: bool, ends: float) -> None:
    """Time whole steps: of a packed denoiser, and of the same weights in float16."""
    from diffusers import PixArtTransformer2DModel, UNet2DConditionModel

    from q2.denoisers.pixart import PixArtAlpha
    from q2.denoisers.sdxl import SDXL

    pixart: Any = {**PixArtAlpha.config, **PixArtAlpha.small} if tiny else PixArtAlpha.config
    kinds: list[tuple[str, Any, Any]] = [("pixart-alpha", PixArtTransformer2DModel, pixart)]
    if not tiny:
        kinds.append(("sdxl", UNet2DConditionModel, SDXL.config))
    for name, kind, config in kinds:
        for option in STEPS[name]:
            with going_on(f"{name} {option}"), torch.no_grad():
                model = filled(kind, config, option, DEVICE, 1.0)
                packed: dict[int, tuple[Tensor, float, float]] = {}
                inputs = {batch: inputs_of(name, batch, tiny) for batch in BATCHES}
                for batch in BATCHES:
                    if time.perf_counter() > ends:
                        failed.append(f"{name} {option} at batch {batch}: left out, the time is over")
                        continue
                    with going_on(f"{name} {option} at batch {batch}, packed"):
                        packed[batch] = step_times(model, inputs[batch], tiny)
                for path, layer in [*model.named_modules()]:
                    if isinstance(layer, Packed):
                        owner, _, own = path.rpartition(".")
                        setattr(model.get_submodule(owner), own, unpack_layer(cast(nn.Module, layer)))
                assert not any(
                    isinstance(layer, Packed) for layer in model.modules() if isinstance(layer, WEIGHT_TYPES)
                )
                for batch, (result, eager, replayed) in packed.items():
                    with going_on(f"{name} {option} at batch {batch}, float16"):
                        exact, plain, plain_replayed = step_times(model, inputs[batch], tiny)
                        error = float((result.double() - exact.double()).norm() / exact.double().norm())
                        row = {"packed": eager, "f16": plain, "ratio": eager / plain}
                        row |= {"packed_graph": replayed, "f16_graph": plain_replayed}
                        row |= {"ratio_graph": replayed / plain_replayed if plain_replayed else 0.0}
                        note(part="step", model=name, option=option, batch=batch, **row, error=f"{error:.1e}")
                del model


def sweep(tiny: bool, ends: float) -> None:
    """Time the tiles that might be better."""
    for shape in ((24, 48),) if tiny else ((1152, 1152), (4608, 1152)):
        for option in ("kmeans-c-4",) if tiny else ("kmeans-c-4", "uaq-4"):
            case = Case(shape, option)
            for tile in SWEPT:
                for count in (1,) if tiny else {1: (1, 4), 16: (8, 16), 32: (32, 77)}[tile.rows]:
                    what = f"{option} {shape} {count} rows {tuple(tile)}"
                    if time.perf_counter() > ends:
                        failed.append(f"{what}: left out, the time is over")
                        continue
                    with going_on(what):
                        x = torch.randn(count, shape[1], device=DEVICE, dtype=torch.float16)
                        case.check(x, case.once(x, tile))
                        us = bench(partial(case.once, x, tile))
                        note(part="sweep", shape=shape, option=option, rows=count, tile=tuple(tile), us=us)


def table() -> None:
    """Print the short table: whole steps, and how the best way of each product compares with float16."""
    print("\nSUMMARY  (ratio: packed time / float16 time)")
    for row in rows_out:
        if row["part"] == "host":
            print(f"  host, {row['what']:<15} {row['us']:6.1f} µs a call, at least {row['least']:.1f}")
    products = [row for row in rows_out if row["part"] == "product"]
    for option in dict.fromkeys(row["option"] for row in products):
        for shape in dict.fromkeys(row["shape"] for row in products):
            mine = [row for row in products if (row["option"], row["shape"]) == (option, shape)]
            each = (f"{row['rows']}:{row['ratio']:.2f}{row['best'][0]}" for row in mine)
            if mine:
                print(f"  {option:<10} {shape!s:<13}", " ".join(each))
    for row in rows_out:
        if row["part"] == "step":
            graph = f"graph {row['packed_graph']:.2f} / {row['f16_graph']:.2f} = {row['ratio_graph']:.2f}"
            eager = f"eager {row['packed']:.2f} / {row['f16']:.2f} ms = {row['ratio']:.2f}"
            print(f"  {row['model']} {row['option']} batch {row['batch']}: {eager}, {graph}, error {row['error']}")
    print(f"  {len(failed)} failures or left out", *failed[:12], sep="\n    ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "layers", "steps", "host", "sweep"), default="all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    began = time.perf_counter()
    ends = began + given.seconds
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else platform.processor()
    print(f"{name}, torch {torch.__version__}, tiles {fused._ROW}, {fused._ROWS}")
    torch.manual_seed(0)
    parts: dict[str, Callable[[], None]] = {
        "host": lambda: host(given.tiny),
        "steps": lambda: steps(given.tiny, began + given.seconds * (0.65 if given.part == "all" else 1)),
        "layers": lambda: layers(given.tiny, began + given.seconds * (0.9 if given.part == "all" else 1)),
        "sweep": lambda: sweep(given.tiny, ends),
    }
    for part, work in parts.items():
        if given.part in {part, "all"}:
            with going_on(part):
                work()
            print(f"-- {part}: {time.perf_counter() - began:.1f} s", flush=True)
    table()
    if given.json:
        held = {"device": name, "torch": torch.__version__, "rows": rows_out, "failed": failed}
        given.json.write_text(json.dumps(held, default=str, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
