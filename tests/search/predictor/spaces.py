"""Spaces of tiny denoisers, and trials of theirs whose target is a sum over layers that is known."""

from functools import cache

import numpy as np

from q2.graph import Graph, trace
from q2.graph.flow.units import find_units
from q2.search.predictor.dataset import Floats, GraphSet, Ints
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.train import Training
from q2.search.predictor.trained import Trained, train
from tests.graph.tiny import FAMILIES

OPTIONS = ("kmeans-c-4", "uaq-4", "kmeans-c-3", "uaq-3")
QUICK = Training(folds=2, epochs=3, batch=32)


@cache
def graph(name: str) -> Graph:
    return trace(FAMILIES[name].build(), FAMILIES[name].example())


@cache
def space(name: str, tied: bool = False, options: tuple[str, ...] = OPTIONS) -> NodeSpace:
    """The space of a tiny denoiser; `tied` makes copies of all its timestep embedders."""
    flow = graph(name).flow()
    nodes = [node for node, data in flow.nodes(data=True) if data["kind"] == "weight"]
    copies = [[n for n in nodes if n.endswith(f"timestep_embedder.linear_{i}")] for i in (1, 2)] if tied else []
    rng = np.random.default_rng(7)
    errors = {node: {o: float(2.0 ** -int(o[-1]) * rng.lognormal(0, 0.5)) for o in options} for node in nodes}
    return NodeSpace.from_flow(
        flow,
        find_units(flow, graph(name).model, None, copies),
        options,
        sizes={node: {option: 100.0 * int(option[-1]) + 16 for option in options} for node in nodes},
        weights=dict.fromkeys(nodes, 100),
        errors=errors,
        ties=copies,
    )


def trials(of: NodeSpace, count: int, seed: int = 0) -> tuple[Ints, Floats]:
    """Random choices, and as their target minus the sum of errors, each times its layer's sensitivity."""
    rng = np.random.default_rng(seed)
    assert of.errors is not None
    cost = of.errors * np.random.default_rng(1).lognormal(0, 1, (len(of.choices), 1))
    chosen = rng.integers(0, len(of.options), (count, len(of.choices)))
    return chosen, -cost[np.arange(len(of.choices)), chosen].sum(1)


def graphs(of: NodeSpace, count: int, seed: int = 0) -> GraphSet:
    chosen, y = trials(of, count, seed)
    return of.graphs(chosen, {"y": y})


@cache
def trained(name: str, embedding: str = "plain") -> Trained:
    settings = Training(folds=2, epochs=3, batch=32, embedding="plain" if embedding == "plain" else "fe-mlp")
    return train(graphs(space(name), 60), "y", settings)
