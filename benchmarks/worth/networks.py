"""Networks over the flow graph, one a set of trials, with different features of nodes, alone and on top of a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.worth.data import Trials
from benchmarks.worth.simple import Learn, Learnt, noise_of_trials
from q2.search.predictor.additive import Additive, fit_linear
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.losses import LossName
from q2.search.predictor.model import Scale
from q2.search.predictor.space import ERROR, SIZE, NodeSpace
from q2.search.predictor.train import Prior, Split, Training, train_fold
from q2.search.predictor.trained import Trained

__all__ = ["NETWORKS", "with_numbers"]


def with_numbers(trials: Trials, what: str) -> NodeSpace:
    """Return the space with other numbers of nodes: ``weights``, ``outputs`` (as it is), ``logs``, ``activations``."""
    space = trials.space
    if what == "outputs":
        return space
    relative = trials.errors / trials.signal[:, None]
    least = relative[relative > 0].min() / 10
    log = np.log10(np.maximum(relative, least))
    size = 100 * 16 * space.weights[:, None] / space.bits
    columns = {SIZE: size, ERROR: 100 * trials.weight_errors}
    if what in ("logs", "activations"):
        columns = {SIZE: size, "log relative error": log, "log error": np.log10(np.maximum(trials.errors, 1e-9))}
    if what == "activations":
        columns |= {f"activation {i}": np.repeat(trials.activations[:, [i]], log.shape[1], 1) for i in range(4)}
    values = np.zeros((len(space.codes), len(columns)))
    for node in space.topology.weights:
        rows = slice(space.first[node], space.first[node] + len(space.options))
        values[rows] = np.stack([column[space.choice[node]] for column in columns.values()], axis=1)
    return replace(space, numbers=tuple(columns), values=values)


def prior_of(space: NodeSpace, fit: Additive, chosen: Ints, known: Ints) -> Prior:
    """Return a fit for a network to add to; the trials that it knows are predicted from the others."""
    rows = np.zeros(len(space.codes))
    nodes = space.topology.nodes
    first = np.array([space.first[nodes.index(name)] for name in space.choices])
    rows[first[:, None] + np.arange(len(space.options))] = fit.table
    offsets = fit.predict(chosen)
    offsets[known] = fit.left_out
    return Prior(rows, fit.constant, fit.link, offsets)


def _network(
    trials: Trials,
    known: Ints,
    *,
    what: str = "outputs",
    loss: LossName = "hybrid",
    fit: Callable[[Trials, Ints], Additive] | None = None,
) -> Learnt:
    """Train one network, an eighth of the trials held to stop by."""
    space, training = with_numbers(trials, what), Training(loss=loss, device="cpu")
    graphs = space.graphs(trials.chosen, {"y": trials.y})
    held = max(2, len(known) // 8)
    prior = None if fit is None else prior_of(space, fit(trials, known), trials.chosen, known)
    fold = train_fold(graphs, trials.y, Split(known[held:], known[:held], known[:2]), training, prior)
    trained = Trained(training, "y", dict(graphs.fields), graphs.numbers, graphs.hops(4), Scale.of(graphs), (fold,))

    def predict(chosen: Ints) -> Floats:
        return trained.predict(space.graphs(chosen, {}))[0]

    return Learnt(predict, _spread(predict, trials, known))


def _spread(predict: Callable[[Ints], Floats], trials: Trials, known: Ints) -> Floats:
    """Return what a choice's options change in the prediction of the best trials, at most, on average over four."""
    count = len(trials.space.options)
    bases = trials.chosen[known[np.argsort(-trials.y[known])[:4]]]
    found = []
    for i in range(len(trials.space.choices)):
        changed = np.repeat(bases, count, axis=0)
        changed[:, i] = np.tile(np.arange(count), len(bases))
        found.append(float(np.ptp(predict(changed).reshape(len(bases), count).mean(0))))
    return np.array(found)


def _additive(trials: Trials, known: Ints) -> Additive:
    return fit_linear(trials.space, trials.chosen[known], trials.y[known])


def _pairs(trials: Trials, known: Ints) -> Learnt:
    """Add to the noise fit what pairs of layers of one unit do together: ridge regression of what it lacks."""
    fit = noise_of_trials(trials, known)
    place = {name: i for i, name in enumerate(trials.space.choices)}
    nodes = trials.space.topology.nodes
    pairs = set()
    for unit in trials.space.topology.units:
        own = sorted({int(trials.space.choice[node]) for node in unit.layers})
        pairs |= {(a, b) for a in own for b in own if a < b}
    assert len(place) <= len(nodes)
    first, second = np.array(sorted(pairs)).T

    def features(chosen: Ints) -> Floats:
        noise = -trials.picked(fit.table, chosen)
        noise = noise - noise.min(0)
        return np.asarray(np.sqrt(noise[:, first] * noise[:, second]) / noise.sum(1, keepdims=True))

    x, rest = features(trials.chosen[known]), trials.y[known] - fit.left_out
    centred = x - x.mean(0)
    best = min((_left_out(centred, rest, p), p) for p in 10.0 ** np.arange(-3, 3))[1]
    gram = centred.T @ centred + best * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (rest - rest.mean()))
    return Learnt(lambda chosen: fit.predict(chosen) + (features(chosen) - x.mean(0)) @ weights)


def _left_out(x: Floats, y: Floats, penalty: float) -> float:
    hat = x @ np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T) + 1 / len(y)
    return float(np.square((y - hat @ y) / (1 - hat.diagonal())).mean())


NETWORKS: dict[str, Learn] = {
    "network, weight errors": partial(_network, what="weights"),
    "network, output errors": _network,
    "network, output errors, loss srcc": partial(_network, loss="srcc"),
    "network, output errors, loss ndcg": partial(_network, loss="ndcg"),
    "network, their logs": partial(_network, what="logs"),
    "network, logs and activations": partial(_network, what="activations"),
    "network on the linear fit": partial(_network, what="logs", fit=_additive),
    "network on the noise fit": partial(_network, what="logs", fit=noise_of_trials),
    "noise fit, pairs within units": _pairs,
}
