"""Builds the bank of a full-size denoiser from random fp16 weights on disk; prints time, memory and size.

    python -m benchmarks.bank_full pixart-alpha [--folder DIR] [--again] [--calibrated] [--kills N] [--switch]

The weights are written as safetensors first (once; `--folder` keeps them), the bank is then built by ``q2 bank`` in a
process of its own. `--calibrated` fits to 4,096 made-up rows of every input, which are written first. `--kills` ends
the build with SIGKILL so often, at random moments, and starts it again; then the layers that it was at, and every
tenth, are built again without a disturbance, and the files compared. `--switch` loads these weights and switches all
layers between options in place.
"""

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import q2
from benchmarks.calibration import activations
from benchmarks.memory import resident
from q2.config import RunFile
from q2.graph import Graph
from q2.passes import PassContext
from q2.passes.transform.apply import apply_options
from q2.plugins import Plugins
from q2.quant import Option
from q2.quant.calibration.rows import RowPlan, write_index, write_rows
from q2.session.bank import bank_in
from q2.session.calibrate import rows_plan
from q2.session.session import Session


def write_weights(name: str, folder: Path) -> int:
    """Write a pipeline folder with random fp16 weights in shards of about 1 GB; return the weights' bytes."""
    denoiser = q2.denoiser(name, weights="meta")
    model: Any = denoiser.model
    component = folder / denoiser.component
    component.mkdir(parents=True, exist_ok=True)
    shards: list[list[str]] = [[]]
    generator = torch.Generator().manual_seed(0)
    state = model.state_dict()
    for key in state:
        if sum(state[held].numel() for held in shards[-1]) > 1 << 29:
            shards.append([])
        shards[-1].append(key)
    where: dict[str, str] = {}
    for number, keys in enumerate(shards, 1):
        file = f"diffusion_pytorch_model-{number:05}-of-{len(shards):05}.safetensors"
        drawn = {key: torch.randn(state[key].shape, generator=generator).mul_(0.02).half() for key in keys}
        save_file(drawn, component / file)
        where |= dict.fromkeys(keys, file)
    total: int = 2 * sum(tensor.numel() for tensor in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (component / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    (component / "config.json").write_text(json.dumps(dict(model.config)))
    pipeline = {"_class_name": "Any", denoiser.component: ["diffusers", type(model).__name__]}
    (folder / "model_index.json").write_text(json.dumps(pipeline))
    return total


def switch(name: str, weights: Path, folder: Path) -> None:
    """Switch every layer of the loaded denoiser from one option to another, in place."""
    denoiser = q2.denoiser(name, checkpoint=str(weights), dtype="float16")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    bank = bank_in(folder, graph, denoiser, plugins=Plugins())
    ctx = PassContext(Plugins(), denoiser, bank=bank)
    total = sum(layer.weights for layer in graph.weight_layers.values())
    for text in ("uaq-4", "kmeans-c-4", "uaq-3", "kmeans-a-3", "kmeans-c-3", "kmeans-a-4"):
        start = time.perf_counter()
        apply_options(graph, dict.fromkeys(graph.choices, Option.parse(text)), ctx)
        took = time.perf_counter() - start
        print(f"  to {text:12} {took:6.2f} s, {total / took / 1e6:6.0f} M weights/s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  peak RSS {peak:.2f} GiB, of which the model {total * 2 / 2**30:.2f}")


def write_made_up_rows(sets: list[str], run: str, folder: Path) -> int:
    """Write the rows that the run file says, made up, and return what they take in bytes."""
    session = Session(RunFile.load(run, sets))
    plan = rows_plan(session, session.graph, session.denoiser, session.denoiser.fingerprint)
    write_rows_of(plan, session.graph, folder)
    return sum(file.stat().st_size for file in folder.iterdir())


def write_rows_of(plan: RowPlan, graph: Graph, folder: Path) -> None:
    """Write made-up rows of every group of a plan."""
    generator = torch.Generator().manual_seed(1)
    folder.mkdir(parents=True, exist_ok=True)
    for group in plan.groups:
        inputs = math.prod(graph.weight_layers[group].shape[1:])
        for batch in range(len(plan.batches)):
            write_rows(folder, plan, group, batch, activations(plan.share(batch), inputs, generator))
    write_index(folder, plan, {group: [plan.share(i) for i in range(len(plan.batches))] for group in plan.groups})


def build(command: list[str], bank: Path, kills: int) -> set[str]:
    """Run a build to its end, ended `kills` times by SIGKILL; print what it took, return the layers it was at."""
    start, peak, at = time.perf_counter(), 0.0, set[str]()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    moments = random.Random(0)
    while True:
        process = subprocess.Popen(command)
        last = moments.uniform(60, 240) if kills else float("inf")
        since = time.perf_counter()
        while process.poll() is None and time.perf_counter() - since < last:
            peak = max(peak, resident(process.pid, peak=True))
            time.sleep(0.2)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills -= 1
        files = sorted(bank.glob("[!.]*.safetensors"), key=lambda file: file.stat().st_mtime)
        at.update(file.name for file in files[-1:])
    if process.returncode:
        raise SystemExit(process.returncode)
    wall, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    print(
        f"{wall / 60:.1f} min with imports, {cpu / 60:.1f} of CPU time, peak RSS {peak:.2f} GiB, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end",
        flush=True,
    )
    return at


def compare(command: list[str], bank: Path, at: set[str]) -> None:
    """Build some layers of a complete bank again, and say how many files differ: `at`, what follows, every tenth."""
    files = sorted(bank.glob("[!.]*.safetensors"), key=lambda file: file.stat().st_mtime)
    after = {file.name for before, file in pairwise(files) if before.name in at}
    chosen = at | after | {file.name for file in files[::10]}
    kept = bank.with_name(bank.name + "-kept")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    for name in chosen:
        (bank / name).rename(kept / name)
    subprocess.run(command, check=True)
    differ = [name for name in chosen if (bank / name).read_bytes() != (kept / name).read_bytes()]
    print(
        f"{len(chosen)} of {len(files)} layers built again without a disturbance: {len(differ)} files differ {differ}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=["dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "q2-bank-full")
    parser.add_argument("--again", action="store_true", help="keep the weights, and rows, that are there")
    parser.add_argument("--calibrated", action="store_true", help="fit to made-up rows of inputs")
    parser.add_argument("--kills", type=int, default=0, help="how often the build is killed, and goes on")
    parser.add_argument("--switch", action="store_true", help="only switch, with the bank that is there")
    options = parser.parse_args()
    kind = "calibrated-bank" if options.calibrated else "bank"
    weights, bank = options.folder / options.name, options.folder / f"{options.name}-{kind}"
    if options.switch:
        switch(options.name, weights, bank)
        return
    if not (options.again and weights.exists()):
        print(f"weights: {write_weights(options.name, weights) / 1e9:.2f} GB in {weights}", flush=True)
    run, sets = f"{options.name}.toml", [f"denoiser.checkpoint={weights}", "denoiser.dtype=float16"]
    if options.calibrated:
        rows = options.folder / f"{options.name}-rows"
        sets += ["bank.calibrated=true", f"calibration.path={rows}"]
        if not (options.again and rows.exists()):
            print(f"rows: {write_made_up_rows(sets, run, rows) / 1e9:.2f} GB in {rows}", flush=True)
    overrides = [text for each in sets for text in ("--set", each)]
    command = [sys.executable, "-m", "q2", "bank", "--config", run, "--out", str(bank), *overrides]
    at = build(command, bank, options.kills)
    if options.kills:
        compare(command, bank, at)


if __name__ == "__main__":
    main()
