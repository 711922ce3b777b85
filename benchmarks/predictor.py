"""A planted problem: does the predictor find sensitivities that are known? With the time that it takes.

    python benchmarks/predictor.py                     # the DiT-XL/2 flow graph, five folds; `--denoiser sdxl`
    python benchmarks/predictor.py --noise 0.2         # 20 % of the target's deviation is noise
    python benchmarks/predictor.py --pairs             # and layers that feed each other make it worse together
    python benchmarks/predictor.py --epoch             # an epoch alone, fused and by PyTorch Geometric
    python benchmarks/predictor.py --quick             # a smoke run

A layer's cost is its sensitivity times its option's error; the target is minus the sum. The predictor is given errors
and sizes, as a bank measures them, and 500 random trials (400 outside of each test part), but no sensitivity.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import time
from collections import defaultdict
from dataclasses import replace

import networkx as nx
import numpy as np
import torch

import q2
from q2.graph.flow.units import find_units
from q2.plugins import Plugins
from q2.quant.kinds import QUANTIZERS
from q2.quant.options import Option
from q2.search.predictor.additive import additive, priors
from q2.search.predictor.baselines import baselines, ridge
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.effects import effects
from q2.search.predictor.label import label
from q2.search.predictor.losses import srcc
from q2.search.predictor.model import LAYERS, Scale
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.train import Split, Training, folds_of, train_fold
from q2.search.predictor.trained import Trained

OPTIONS = {  # and how large an option's error is beside the others'
    "kmeans-c-4": 0.6, "kmeans-a-4": 1.0, "uaq-4": 1.5, "kmeans-c-3": 2.4, "kmeans-a-3": 4.0, "uaq-3": 8.0,
}  # fmt: skip
BASES = 8


def planted(name: str, rng: np.random.Generator) -> tuple[NodeSpace, Floats]:
    """Return a denoiser's space, and what every option of every choice costs (choices, options)."""
    denoiser = q2.denoiser(name, weights="meta")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    flow = graph.flow()
    copies = defaultdict(list)
    for path in graph.weight_layers:
        if "norm1.emb.timestep_embedder" in path:  # DiT's checkpoint holds one embedder many times
            copies[path.rpartition(".")[2]].append(path)
    units = find_units(flow, graph.model, None, copies.values())
    quantizers, sizes, weights, errors = Plugins(entry_points=False).of(QUANTIZERS), {}, {}, {}
    for node, data in flow.nodes(data=True):
        if data["kind"] == "weight":
            outputs, inputs, *kernel = graph.weight_layers[data["layer"]].shape
            shape = (outputs, min(inputs, data["channels"][1] - data["channels"][0]), *kernel)
            parsed = {option: Option.parse(option) for option in OPTIONS}
            sizes[node] = {o: quantizers.load(p.quantizer)().size_bits(shape, p.bits) for o, p in parsed.items()}
            weights[node] = math.prod(shape)
            errors[node] = {o: 0.01 * e * rng.lognormal(0, 0.25) for o, e in OPTIONS.items()}
            level = rng.lognormal(0, 0.5)
            errors[node] = {option: error * level for option, error in errors[node].items()}
    space = NodeSpace.from_flow(
        flow, units, tuple(OPTIONS), sizes=sizes, weights=weights, errors=errors, ties=copies.values()
    )
    return space, sensitivities(space, flow, rng)[:, None] * np.asarray(space.errors)


def sensitivities(space: NodeSpace, flow: nx.DiGraph[str], rng: np.random.Generator) -> Floats:
    """Draw lognormal sensitivities, of a part by role, by block, and of the layer's own."""
    roles: dict[object, float] = defaultdict(lambda: rng.normal(0, 0.7))
    blocks: dict[object, float] = defaultdict(lambda: rng.normal(0, 0.4))
    places = [flow.nodes[name] for name in space.choices]
    return np.exp([roles[p["stage"], p["role"]] + blocks[p["stage"], p["block"]] + rng.normal(0, 0.4) for p in places])


def paired(space: NodeSpace, own: Floats) -> Floats:
    """Return what layers that feed each other cost together (trials,), of their own costs (trials, choices)."""
    total = np.zeros(len(own))
    for a, b in space.topology.edges.T:
        i, j = space.choice[a], space.choice[b]
        if min(i, j) >= 0 and i != j:
            total += np.sqrt(own[:, i] * own[:, j])
    return total


def overlap(cost: Floats, scores: Floats) -> float:
    """Return the share of the tenth of choices with the widest spread of cost that `scores` have among theirs."""
    count = max(1, round(0.1 * len(cost)))
    truth, found = (set(np.argsort(-np.ptp(table, axis=1))[:count].tolist()) for table in (cost, scores))
    return len(truth & found) / count


def row(name: str, *cells: object) -> None:
    """Print a row of the table."""
    print("|", name, "|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    """Plant, train, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--denoiser", default="dit")
    parser.add_argument("--loss", default="hybrid", choices=("srcc", "ndcg", "hybrid"))
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--folds", type=int, default=5, help="how many of the five folds to run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epoch", action="store_true", help="only how long an epoch takes")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    trials, training = 500, Training(loss=given.loss)
    if given.quick:
        trials, training = 60, Training(loss=given.loss, epochs=2)
    rng = np.random.default_rng(given.seed)
    space, cost = planted(given.denoiser, rng)
    chosen = rng.integers(0, len(OPTIONS), (trials, len(space.choices)))
    own = cost[np.arange(len(space.choices)), chosen]
    y = -own.sum(1) - (paired(space, own) if given.pairs else 0)
    y = y + given.noise * y.std() * rng.normal(size=trials)
    size = f"{len(space.choices)} choices, {len(space.topology.nodes)} nodes; {trials} trials"
    flags = f"noise {given.noise:g}, pairs {given.pairs}, loss {given.loss}, seed {given.seed}"
    print(f"{given.denoiser}: {size}, {flags}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}\n")
    if given.epoch:
        epochs(space, training)
        return
    print("| what | mean over folds | deviation |\n| --- | --- | --- |")
    report(space, cost, chosen, y, training=training, given=given)


def report(
    space: NodeSpace, cost: Floats, chosen: Ints, y: Floats, *, training: Training, given: argparse.Namespace
) -> None:
    """Train the folds and print how well they rank, what they find, and how long it took."""
    import joblib

    graphs = space.graphs(chosen, {"y": y})
    splits = folds_of(len(y), training)[: given.folds]
    start = time.perf_counter()
    fits = additive(space, chosen, y, training)
    known = priors(space, fits, chosen, training)
    pairs = zip(splits, known[: len(splits)], strict=True)
    run = (joblib.delayed(train_fold)(graphs, y, split, training, prior) for split, prior in pairs)
    folds = tuple(joblib.Parallel(n_jobs=given.jobs)(run))
    seconds = time.perf_counter() - start
    shape = (dict(graphs.fields), graphs.numbers, graphs.hops(LAYERS), Scale.of(graphs))
    trained = Trained(training, "y", *shape, folds)
    for name, (mean, deviation) in trained.summary().items():
        row(f"{name}, test", f"{mean:.3f}", f"{deviation:.3f}")
    for name, metrics in baselines(space, chosen, y, training, fits).items():
        for metric, values in metrics.items():
            row(f"{metric} of {name}", f"{values[: len(splits)].mean():.3f}", f"{values[: len(splits)].std():.3f}")
    clock = time.process_time()
    labels = label(space, trained)
    labelling = time.process_time() - clock
    layers = effects(space, trained, chosen[splits[0].training[:BASES]])
    coefficients = np.stack([ridge(chosen, len(OPTIONS), y, split) for split in splits], axis=-1)
    scores = {"node scores": labels.nodes, "effects": layers, "ridge": coefficients}
    for name, table in scores.items():
        single = [overlap(cost, table[:, :, i]) for i in range(table.shape[2])]
        row(f"top tenth of layers found by {name}, one fold", f"{np.mean(single):.3f}", f"{np.std(single):.3f}")
        row(f"top tenth of layers found by {name}, all folds", f"{overlap(cost, table.sum(2)):.3f}", "")
    found = [unit_srcc(space, cost, unit.choices, unit.variants, unit.scores.sum(1)) for unit in labels.units]
    row("SRCC of variants' scores with their cost, a unit", f"{np.mean(found):.3f}", f"{np.std(found):.3f}")
    row("epochs", f"{np.mean([fold.epochs for fold in folds]):.0f}", f"{np.std([fold.epochs for fold in folds]):.0f}")
    row(f"{len(folds)} folds, {given.jobs} at a time, s", f"{seconds:.0f}", "")
    variants = sum(len(unit.variants) for unit in labels.units)
    row(f"labelling {variants:,} variants with {len(folds)} folds, CPU s", f"{labelling:.1f}", "")
    passes = [epoch_time(space, training) for _ in range(3)]
    row("an epoch of 400 graphs, CPU s, best of 3", f"{min(passes):.2f}", "")


def unit_srcc(space: NodeSpace, cost: Floats, choices: tuple[str, ...], variants: Ints, scores: Floats) -> float:
    """Return how well a unit's scores rank its variants by their planted cost."""
    places = [space.choices.index(name) for name in choices]
    return srcc(-cost[places, variants].sum(1), scores)


def epochs(space: NodeSpace, training: Training, rounds: int = 3) -> None:
    """Print what an epoch of 400 graphs takes by either code, in turn, and the ratio of every round."""
    print(
        "| an epoch of 400 graphs, CPU s | fused | PyTorch Geometric | ratio |\n| --- | --- | --- | --- |", flush=True
    )
    epoch_time(space, training)  # imports and compiles
    for i in range(rounds):
        fused, pyg = (epoch_time(space, replace(training, attention=name)) for name in ("fused", "pyg"))
        row(f"round {i}", f"{fused:.2f}", f"{pyg:.2f}", f"{pyg / fused:.2f}")


def epoch_time(space: NodeSpace, training: Training) -> float:
    """Return the CPU seconds of an epoch over 400 graphs: what three epochs take more than one, half of it."""
    rng = np.random.default_rng(0)
    graphs = space.graphs(rng.integers(0, len(OPTIONS), (404, len(space.choices))), {})
    split = Split(np.arange(400), np.array([400, 401]), np.array([402, 403]))
    seconds = []
    for count in (1, 3):
        clock = time.process_time()
        train_fold(graphs, rng.normal(size=404), split, replace(training, device="cpu", epochs=count))
        seconds.append(time.process_time() - clock)
    return (seconds[1] - seconds[0]) / 2


if __name__ == "__main__":
    main()
