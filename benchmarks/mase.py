"""The sixteen configurations of MASE's walk-through (its lab 3) on q2's jsc-tiny, beside the walk-through's figures.

``python -m benchmarks.mase`` prints docs/mase.md's table: accuracy on all test samples, BitOPs of a batch of 8, bits of
the weights, and the median latency of 30 calls on that batch after 5.
"""

from __future__ import annotations

import itertools
import platform

import numpy as np
import torch

from q2.compat.mase import MaseDataModule, MaseGraph, calculate_avg_bits_mg_analysis_pass, count_bitops, get_model
from q2.compat.mase.transforms import quantize_transform_pass
from q2.models import evaluate
from q2.passes.analysis.latency import seconds_of

WIDTHS = [(16, 8), (8, 6), (8, 4), (4, 2)]
THEIRS = [  # accuracy, BitOPs, weight bits; data in, then weights, each in the order of WIDTHS
    (0.4773, 703744, 1920), (0.4763, 621824, 1120), (0.4731, 621824, 960), (0.4582, 580864, 480),
    (0.4716, 616704, 1920), (0.4656, 575744, 1120), (0.4732, 575744, 960), (0.4367, 555264, 480),
    (0.4681, 616704, 1920), (0.4700, 575744, 1120), (0.4784, 575744, 960), (0.4568, 555264, 480),
    (0.4646, 575744, 1920), (0.4702, 555264, 1120), (0.4661, 555264, 960), (0.4300, 545024, 480),
]  # fmt: skip


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    data = MaseDataModule("jsc", batch_size=8, model_name="jsc-tiny")
    model = get_model("jsc-tiny", pretrained=True)
    mg = MaseGraph(model, dummy_in={"x": data.data.first(8)})
    full = evaluate(mg.model, data.data, "test")
    print(f"{platform.machine()}, torch {torch.__version__}; full precision: accuracy {full.accuracy:.4f}\n")
    print("| data in | weights | accuracy | BitOPs | weight bits | ms | theirs: accuracy | BitOPs | weight bits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (data_in, weight), theirs in zip(itertools.product(WIDTHS, WIDTHS), THEIRS, strict=True):
        config = {"name": "integer", "bias_width": 8, "bias_frac_width": 4}
        config |= {"data_in_width": data_in[0], "data_in_frac_width": data_in[1]}
        config |= {"weight_width": weight[0], "weight_frac_width": weight[1]}
        mg, _ = quantize_transform_pass(mg, {"by": "type", "linear": {"config": config}})
        _, ops = count_bitops(mg)
        _, size = calculate_avg_bits_mg_analysis_pass(mg)
        score = evaluate(mg.model, data.data, "test")
        latency = 1e3 * float(np.median(seconds_of(mg.graph, 5, 30)))
        ours = f"{score.accuracy:.4f} | {ops['total_bits']:,.0f} | {size['w_overall_bit']:,.0f} | {latency:.2f}"
        print(f"| {data_in} | {weight} | {ours} | {theirs[0]} | {theirs[1]:,} | {theirs[2]:,} |")


if __name__ == "__main__":
    main()
