"""Builds the bank of a full-size denoiser from random fp16 weights on disk; prints time, memory and size.

    python benchmarks/bank_full.py pixart-alpha [--folder DIR] [--again] [--switch]

The weights are written as safetensors first (once; `--folder` keeps them), the bank is then built by ``q2 bank`` in a
process of its own. `--switch` loads these weights and switches all layers between options in place.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import q2
from q2.passes import PassContext
from q2.passes.transform.apply import apply_options
from q2.plugins import Plugins
from q2.quant import Option
from q2.session.bank import bank_in


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=["dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "q2-bank-full")
    parser.add_argument("--again", action="store_true", help="keep the weights that are there")
    parser.add_argument("--switch", action="store_true", help="only switch, with the bank that is there")
    options = parser.parse_args()
    weights, bank = options.folder / options.name, options.folder / f"{options.name}-bank"
    if options.switch:
        switch(options.name, weights, bank)
        return
    if not (options.again and weights.exists()):
        print(f"weights: {write_weights(options.name, weights) / 1e9:.2f} GB in {weights}", flush=True)
    run = f"{options.name}.toml"
    sets = ["--set", f"denoiser.checkpoint={weights}", "--set", "denoiser.dtype=float16"]
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "q2", "bank", "--config", run, "--out", str(bank), *sets])
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, own_peak(process.pid))
        time.sleep(0.5)
    wall = time.perf_counter() - start
    print(f"{options.name}: {wall / 60:.1f} min with imports, peak RSS {peak:.2f} GiB, {os.cpu_count()} cores")


def own_peak(process: int) -> float:
    """Return the largest resident set of a process, GiB; `getrusage` would count its parent's before the exec."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 2**20 if found else 0.0


if __name__ == "__main__":
    main()
