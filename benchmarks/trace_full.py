"""Trace the published denoisers at full size on meta, each in its own process: CPU seconds, peak memory.

python benchmarks/trace_full.py [name …]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

SIX = ("dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15")
NINE = ("flux", "flux-schnell", "sd35-large", "sd35-medium", "sana", "qwen-image", "z-image", "lumina2", "wan21")
RUNS = 3


def one(name: str) -> None:
    """Trace one denoiser a few times and print a row."""
    import q2

    denoiser = q2.denoiser(name, weights="meta")
    inputs = denoiser.example_inputs()
    _ = denoiser.model
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        graph = q2.trace(denoiser.model, inputs)
        seconds.append(time.process_time() - start)
    start = time.process_time()
    units = graph.units()
    derived = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    weights = sum(layer.weights for layer in graph.weight_layers.values())
    row = [name, f"{min(seconds):.2f} to {max(seconds):.2f}", f"{memory:.2f}", len(graph.weight_layers), f"{weights:,}"]
    print("|", " | ".join(map(str, [*row, f"{graph.macs / 1e9:.2f}", len(units), f"{derived:.2f}"])), "|", flush=True)


def main() -> None:
    """Trace one denoiser, or several, or all, one after the other."""
    if len(sys.argv) == 2:
        one(sys.argv[1])
        return
    print("| denoiser | trace, CPU s | peak RSS, GiB | weight layers | weights | GMACs | units | flow and units, s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for name in sys.argv[1:] or (*SIX, *NINE):
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    main()
