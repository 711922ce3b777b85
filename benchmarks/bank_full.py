"""Builds the bank of a full-size denoiser from random fp16 weights on disk; prints time, memory and size.

    python benchmarks/bank_full.py pixart-alpha [--folder DIR] [--again]

The weights are written as safetensors first (once; `--folder` keeps them), the bank is then built by ``q2 bank`` in a
process of its own. Then layers are switched between two recipes in place, to say how many weights a second that is.
"""

import argparse
import json
import os
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


def write_weights(name: str, folder: Path) -> int:
    """Write a pipeline folder with random fp16 weights in shards of about 1 GB; return the weights' bytes."""
    denoiser = q2.denoiser(name, weights="meta")
    model: Any = denoiser.model
    component = folder / denoiser.component
    component.mkdir(parents=True, exist_ok=True)
    generator, shard, size, number, total = torch.Generator().manual_seed(0), {}, 0, 0, 0
    state = model.state_dict()
    for i, (key, tensor) in enumerate(state.items()):
        shard[key] = (torch.randn(tensor.shape, generator=generator) * 0.02).half()
        size += shard[key].nbytes
        if size > 1 << 30 or i == len(state) - 1:
            save_file(shard, component / f"diffusion_pytorch_model-{number:05}.safetensors")
            total, shard, size, number = total + size, {}, 0, number + 1
    (component / "config.json").write_text(json.dumps(dict(model.config)))
    index = {"_class_name": "Any", denoiser.component: ["diffusers", type(model).__name__]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=["dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "q2-bank-full")
    parser.add_argument("--again", action="store_true", help="keep the weights that are there")
    options = parser.parse_args()
    weights, bank = options.folder / options.name, options.folder / f"{options.name}-bank"
    if not (options.again and weights.exists()):
        print(f"weights: {write_weights(options.name, weights) / 1e9:.2f} GB in {weights}", flush=True)
    run = f"{options.name}.toml"
    sets = ["--set", f"denoiser.checkpoint={weights}", "--set", "denoiser.dtype=float16"]
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "q2", "bank", "--config", run, "--out", str(bank), *sets], check=True)
    wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{options.name}: {wall / 60:.1f} min with imports, peak RSS {peak:.2f} GiB, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
