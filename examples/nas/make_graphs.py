"""Make a small set of architectures as graphs, with metrics that are planted: ``python examples/nas/make_graphs.py``.

A network is a chain of three units of two to four blocks, as in MobileNetV3's search space: a block has an expansion
ratio (3, 4 or 6) and a kernel (3, 5 or 7). Its accuracy is a sum over blocks, each counting more in the last unit,
where large kernels help, and less the deeper a unit already is; its latency grows with expansion and kernel, most in
the first unit, whose pictures are largest. A little noise is added to both.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

COUNT, SEED = 160, 0
EXPANSIONS, KERNELS, DEPTHS = (3, 4, 6), (3, 5, 7), (2, 3, 4)
GAIN, WIDE, LARGE = (0.4, 0.7, 1.0), (0.9, 0.6, 0.3), (0.1, 0.3, 0.8)  # by unit: a block, expansion, kernel
SIDES = (28, 14, 7)


def network(rng: np.random.Generator) -> dict[str, Any]:
    """Return one graph: its nodes, edges and metrics."""
    nodes, accuracy, latency = [], 68.0, 2.0
    for unit in range(3):
        for block in range(int(rng.choice(DEPTHS))):
            expansion, kernel = int(rng.choice(EXPANSIONS)), int(rng.choice(KERNELS))
            gain = GAIN[unit] + WIDE[unit] * (expansion - 3) / 3 + LARGE[unit] * (kernel - 3) / 4
            accuracy += gain * 0.7**block
            latency += expansion * (kernel**2 + 40) * SIDES[unit] ** 2 / 40000
            features = {"expansion": str(expansion), "kernel": str(kernel), "block": str(block + 1)}
            nodes.append({"unit": f"unit {unit + 1}", "stage": str(unit + 1), **features})
    metrics = {"accuracy": accuracy + 0.1 * rng.normal(), "latency": latency * (1 + 0.02 * rng.normal())}
    edges = [[i, i + 1] for i in range(len(nodes) - 1)]
    return {"nodes": nodes, "edges": edges, "metrics": {name: round(value, 3) for name, value in metrics.items()}}


def text() -> str:
    """Return the file's text: a graph a line."""
    rng = np.random.default_rng(SEED)
    lines = [json.dumps(network(rng), separators=(",", ":")) for _ in range(COUNT)]
    return '{"graphs": [\n' + ",\n".join(lines) + "\n]}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("graphs.json"))
    parser.parse_args().out.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
