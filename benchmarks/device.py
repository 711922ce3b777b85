"""What q2 does on a GPU beside the same on the CPU: fits of layers, then calibrate, bank, sample, evaluate and search.

    python -m benchmarks.device [--device cuda] [--only NAME ...] [--small]

Every case is tried, whatever became of those before; what fails is printed with its traceback, and the exit code is 1.
`--small` takes toy sizes, to try the script itself. The CPU's side is computed in this process, with torch's threads.
"""

import argparse
import functools
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import q2
from benchmarks.calibration import QUANTIZERS, WIDTHS, activations, plain
from q2.config import RunFile
from q2.denoisers import Ask
from q2.quant import builtin_quantizer
from q2.quant.base import Fitted, FittedWeight
from q2.quant.calibration.fit import fit_outputs
from q2.quant.calibration.gram import pieces
from q2.quant.calibration.problem import Problem
from q2.quant.calibration.rows import RowStore
from q2.session.bank import build_bank
from q2.session.calibrate import calibrate
from q2.session.sample import Order, pictures
from q2.session.saved import of_saved
from q2.session.search import search
from q2.session.session import Session

NAMES = ("digits-dit", "digits-sdxl")
Case = Callable[[], None]
Timed = tuple[float, Any]


def timed(work: Callable[[], Any], device: str) -> Timed:
    start = time.perf_counter()
    found = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def calibrated(weight: Tensor, rows: Tensor) -> list[Fitted]:
    problem = Problem(weight.flatten(1).float(), pieces(rows, weight.shape, 1 / len(rows)))
    return [found for name in QUANTIZERS for found in fit_outputs(weight, builtin_quantizer(name), WIDTHS, problem)]


def equal(one: FittedWeight, other: FittedWeight) -> bool:
    same = all(torch.equal(tensor.cpu(), other.parameters[name].cpu()) for name, tensor in one.parameters.items())
    return same and one.errors == other.errors and torch.equal(one.codes().cpu(), other.codes().cpu())


def layer(outputs: int, inputs: int, count: int, device: str) -> None:
    """Fit one layer plain and calibrated."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator) * 0.02
    rows = activations(count, inputs, generator)
    there, its_rows = weight.to(device), rows.to(device)
    plain_cpu, ours = timed(lambda: plain(weight), "cpu")
    plain_there, theirs = timed(lambda: plain(there), device)
    same = sum(equal(one, other) for one, other in zip(ours, theirs, strict=True))
    print(f"plain       CPU {plain_cpu:7.3f} s   {device} {plain_there:7.3f} s   {same} of {len(ours)} options equal")
    work_cpu, mine = timed(lambda: calibrated(weight, rows), "cpu")
    work_there, found = timed(lambda: calibrated(there, its_rows), device)
    print(
        f"calibrated  CPU {work_cpu:7.3f} s   {device} {work_there:7.3f} s   {work_cpu / work_there:.2f} times as fast"
    )
    for one, other in zip(mine, found, strict=True):
        assert one.outputs
        assert other.outputs
        ratio = other.outputs.error / one.outputs.error - 1
        codes = float((one.codes().cpu() != other.codes().cpu()).double().mean()) if hasattr(one, "codes") else 0.0
        print(
            f"  {one.option!s:11} output error {one.outputs.error:.6g} {other.outputs.error:.6g} ({ratio:+.2e}) {codes}"
        )


def parts(outputs: int, inputs: int, count: int, device: str) -> None:
    """Print where the seconds of a calibrated fit on the device go."""
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(outputs, inputs, generator=generator) * 0.02).to(device)
    rows = activations(count, inputs, generator).to(device)
    moments, held = timed(lambda: pieces(rows, weight.shape, 1 / len(rows)), device)
    problem = Problem(weight, held)
    uaq, kmeans = builtin_quantizer("uaq"), builtin_quantizer("kmeans-c")
    starts, parameters = timed(lambda: uaq.parameters(weight, 4, 16), device)
    weighted, _ = timed(lambda: kmeans.weighted_parameters(weight, problem.importance, WIDTHS, 16), device)
    levels = uaq.levels(parameters, 4)
    assert levels is not None
    compensated, (codes, _) = timed(lambda: problem.compensated(levels), device)
    again, _ = timed(lambda: problem.compensated(levels), device)
    refitted, _ = timed(lambda: uaq.refit(problem.normal(codes, 16), parameters, 4), device)
    descended, _ = timed(lambda: problem.descended(levels, codes), device)
    print(
        f"moments {moments:.3f}, uaq-4 {starts:.3f}, weighted kmeans-c {weighted:.3f}, compensation {compensated:.3f}"
    )
    print(f"  again {again:.3f}, levels {refitted:.3f}, descent {descended:.3f} s")


class Network:
    """An embedded denoiser on the CPU and on a device."""

    def __init__(self, name: str, device: str, folder: Path, *, small: bool) -> None:
        self.name, self.device, self.folder = name, device, folder
        self.images, self.steps, self.trials = (2, 2, 2) if small else (16, 8, 5)

    def session(self, device: str, *sets: str) -> Session:
        """Return the session of a run on a device."""
        given = [f"denoiser.device={device}", f"bank.device={device}", "samples.images=0", *sets]
        return Session(RunFile.load(f"{self.name}.toml", given))

    def both(self, work: Callable[[str], Any]) -> tuple[Any, Any]:
        """Do work on the CPU and on the device, and print the seconds."""
        first, mine = timed(lambda: work("cpu"), "cpu")
        second, theirs = timed(lambda: work(self.device), self.device)
        print(f"  CPU {first:6.2f} s   {self.device} {second:6.2f} s, loading included")
        return mine, theirs

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Yield every case with its name."""
        yield "sample", functools.partial(self.sample)
        yield "sample-act8", functools.partial(self.sample, act_bits=8)
        yield "offload-model", functools.partial(self.offload, "model")
        yield "offload-sequential", functools.partial(self.offload, "sequential")
        yield "half", self.half
        yield "calibrate", self.calibrate
        yield "bank", self.bank
        yield "evaluate", self.evaluate
        yield "search", self.search
        yield "search-2-workers", self.search_in_processes
        yield "search-fisher", self.search_fisher
        yield "save", self.save

    def order(self, **more: Any) -> Order:
        """Return an order of four pictures."""
        return Order(Ask(), n=4, steps=self.steps, batch=4, **more)

    def sample(self, act_bits: int | None = None) -> None:
        """Draw pictures with the run file's passes."""
        mine, theirs = self.both(lambda device: pictures(self.session(device), self.order(act_bits=act_bits)).images)
        print(
            f"  largest difference of a pixel {float((mine - theirs).abs().max()):.3g}, mean of all {mine.mean():.5f}"
        )

    def offload(self, kind: Any) -> None:
        """Draw with the parts on the CPU until they are used."""
        seconds, found = timed(lambda: pictures(self.session(self.device), self.order(offload=kind)), self.device)
        whole = pictures(self.session(self.device), self.order())
        print(f"  {seconds:.2f} s, largest difference {float((whole.images - found.images).abs().max()):.3g}")

    def half(self) -> None:
        """Draw in 16 bits."""
        whole = pictures(self.session(self.device), self.order()).images
        for dtype in ("float16", "bfloat16"):
            found = pictures(self.session(self.device, f"denoiser.dtype={dtype}"), self.order()).images
            print(f"  {dtype}: mean difference to float32 {float((whole - found).abs().mean()):.3g}")

    def rows(self, device: str) -> tuple[str, ...]:
        """Return the settings of rows that are drawn on a device."""
        place = self.folder / f"{self.name}-rows-{device}"
        return (f"calibration.path={place}", "calibration.images=4", f"calibration.steps={self.steps}")

    def calibrate(self) -> None:
        """Collect rows of layers' inputs."""
        self.both(lambda device: calibrate(self.session(device, *self.rows(device))))
        one, other = (RowStore.open(self.folder / f"{self.name}-rows-{each}") for each in ("cpu", self.device))
        worst = 0.0
        for name in one.layers:
            ours, theirs = one.rows(name), other.rows(name)
            if ours and theirs:
                scale = float(ours.values.square().mean().sqrt()) or 1.0
                worst = max(worst, float((ours.values - theirs.values).square().mean().sqrt()) / scale)
        print(f"  {one.plan.rows} rows a layer; root mean square of the difference, worst layer: {worst:.2e}")

    def bank(self) -> None:
        """Fit all layers, to weights and, by the CPU's rows, to outputs."""
        options = 'bank.options=["uaq-4", "uaq-3", "kmeans-c-4", "kmeans-c-3", "kmeans-a-4", "kmeans-a-3"]'
        for kind, sets in {"plain": (), "calibrated": ("bank.calibrated=true", *self.rows("cpu"))}.items():
            print(f"  {kind}:", end="")

            def build(device: str, kind: str = kind, sets: tuple[str, ...] = sets) -> Any:
                place = self.folder / f"{self.name}-{kind}-{device}"
                return build_bank(self.session(device, options, *sets), place).bank

            mine, theirs = self.both(build)
            files = sorted(path.name for path in mine.folder.iterdir())
            same = sum((mine.folder / name).read_bytes() == (theirs.folder / name).read_bytes() for name in files)
            print(f"  {same} of {len(files)} files equal")
            if mine.plan.calibration:
                for option in mine.plan.options:
                    errors = [
                        sum(bank.fitted(choice, q2.quant.Option.parse(option)).outputs.error for choice in choices)
                        for bank in (mine, theirs)
                        for choices in [[name for each in bank.plan.layers.values() for name in each.choices]]
                    ]
                    print(f"  {option:11} output errors in all {errors[0]:.6g} {errors[1]:.6g}")

    def evaluate(self) -> None:
        """Measure one recipe at two fidelities."""
        for fidelity in ("forward", "full"):

            def work(device: str, fidelity: str = fidelity) -> Mapping[str, float]:
                run = q2.open(f"{self.name}.toml", self.settings(device, fidelity))
                return run.evaluate(dict.fromkeys(list(run.outline.choices)[::2], "uaq-3")).metrics

            print_metrics(*self.both(work))

    def settings(self, device: str, fidelity: str) -> dict[str, Any]:
        """Return the settings of an evaluation."""
        return {
            "denoiser.device": device,
            "samples.images": 0,
            "search.evaluation.fidelity": fidelity,
            "search.evaluation.images": self.images,
            "search.evaluation.steps": self.steps,
        } | ({"search.target": "SQNR - 4*avg_bits"} if fidelity == "forward" else {})

    def searched(self, device: str, *sets: str, workers: int = 1, title: str = "search") -> Any:
        """Search on a device."""
        evaluation = (f"search.evaluation.images={self.images}", f"search.evaluation.steps={self.steps}")
        more = (f"search.trials={self.trials}", f"search.engine.workers={workers}", "search.baselines=off")
        session = self.session(device, *evaluation, *more, *sets)
        return search(session, self.folder / f"{self.name}-{title}-{device}")

    def search(self) -> None:
        """Search at random: the same recipes on both."""
        mine, theirs = self.both(lambda device: self.searched(device, "search.strategy=random"))
        for one, other in zip(mine.trials, theirs.trials, strict=True):
            print_metrics(one.metrics, other.metrics)
        for device, result in (("CPU", mine), (self.device, theirs)):
            print(f"  {device}: { {name: round(value, 2) for name, value in result.times['spent'].items()} }")

    def search_in_processes(self) -> None:
        """Search with two workers that share the device."""
        seconds, result = timed(
            lambda: self.searched(self.device, "search.strategy=random", workers=2, title="two"), self.device
        )
        print(f"  {seconds:.2f} s")
        for trial in result.trials:
            print_metrics(trial.metrics, trial.metrics)

    def search_fisher(self) -> None:
        """Search by gradients."""
        mine, theirs = self.both(lambda device: self.searched(device, "search.strategy=fisher", title="fisher"))
        print_metrics(mine.trials[0].metrics, theirs.trials[0].metrics)

    def save(self) -> None:
        """Quantize, save packed and draw from the folder."""
        place = self.folder / f"{self.name}-saved"
        q2.open(f"{self.name}.toml", {"denoiser.device": self.device, "samples.images": 0}).transform().save(place)
        mine, theirs = self.both(
            lambda device: pictures(of_saved(self.session(device), str(place), named=False), self.order()).images
        )
        print(f"  largest difference of a pixel {float((mine - theirs).abs().max()):.3g}")


def print_metrics(mine: Mapping[str, float], theirs: Mapping[str, float]) -> None:
    print("  " + " · ".join(f"{name} {value:.6g} {theirs.get(name, float('nan')):.6g}" for name, value in mine.items()))


def cases(device: str, folder: Path, *, small: bool) -> Iterator[tuple[str, Case]]:
    """Yield every case with its name."""
    side, long, count = (64, 256, 128) if small else (1152, 4608, 4096)
    yield "layer: what compiles", functools.partial(layer, 64, 128, 256, device)
    for outputs, inputs in ((side, side), (long, side), (side, long)):
        yield f"layer: {outputs} x {inputs}", functools.partial(layer, outputs, inputs, count, device)
        yield f"layer: parts of {outputs} x {inputs}", functools.partial(parts, outputs, inputs, count, device)
    for name in NAMES:
        for title, case in Network(name, device, folder, small=small).cases():
            yield f"{name}: {title}", case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="*", default=[""], help="cases whose names hold one of these")
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"device: {device}")
    failed, begun = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, case in cases(options.device, Path(folder), small=options.small):
            if not any(word in name for word in options.only):
                continue
            start = time.perf_counter()
            print(f"== {name}", flush=True)
            try:
                case()
            except Exception:  # noqa: BLE001 (the other cases are tried)
                failed.append(name)
                traceback.print_exc(file=sys.stdout)
            print(f"   {time.perf_counter() - start:.1f} s", flush=True)
    print(f"{time.perf_counter() - begun:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
