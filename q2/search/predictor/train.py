"""Training: k folds, each a predictor with its hop weights, tested on a part that nothing was chosen by."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from q2.errors import PredictorError
from q2.search.predictor.attention import Attention
from q2.search.predictor.dataset import Floats, GraphSet, Ints
from q2.search.predictor.features import FeatureMLP, NodeEmbedding
from q2.search.predictor.link import Link
from q2.search.predictor.losses import LossName, ndcg, ranking_loss, relevance, srcc
from q2.search.predictor.model import LAYERS, HopNetwork, Scale, Table

_LEAST_WEIGHT = 0.01
_TINY = 1e-12

__all__ = ["Fold", "Prior", "Split", "Training", "folds_of", "node_norms", "predict", "train_fold"]


@dataclass(frozen=True)
class Training:
    """How predictors are trained: the settings of a run.

    `epochs` is the length of the cosine schedule; training stops where the validation loss has not improved for
    `patience` epochs, and keeps its best weights. `rank_weight` is the λ of the ranking terms. `device` is torch's name
    of where it runs, ``auto`` CUDA where there is one; `attention` which code passes messages (`Messages`). Raises
    PredictorError.
    """

    loss: LossName = "hybrid"
    embedding: Literal["plain", "fe-mlp"] = "plain"
    folds: int = 5
    epochs: int = 60
    patience: int = 15
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-6
    clip: float = 5.0
    rank_weight: float = 1.0
    validation: float = 0.125
    seed: int = 12345
    device: str = "auto"
    attention: Attention = "auto"

    def __post_init__(self) -> None:
        if self.attention not in ("auto", "fused", "pyg"):
            raise PredictorError(f"attention: expected auto, fused or pyg, found {self.attention!r}")
        if self.loss not in ("srcc", "ndcg", "hybrid"):
            raise PredictorError(f"loss: expected srcc, ndcg or hybrid, found {self.loss!r}")
        if self.embedding not in ("plain", "fe-mlp"):
            raise PredictorError(f"embedding: expected plain or fe-mlp, found {self.embedding!r}")
        if self.folds < 2 or min(self.epochs, self.patience, self.batch) < 1 or not 0 < self.validation < 1:
            raise PredictorError("training: expected two folds or more, epochs, patience and batch above 0")

    def place(self) -> torch.device:
        """Return the device. Raises Q2Error for one that is not here, or where the fused kernel does not run."""
        from q2.denoisers.base import device_of

        found = device_of("cpu" if (self.device, self.attention) == ("auto", "fused") else self.device)
        if self.attention == "fused" and found.type != "cpu":
            raise PredictorError(f"attention: 'fused' runs on the CPU, not on {found}; expected auto or pyg")
        return found


@dataclass(frozen=True, eq=False)
class Split:
    """Which graphs a fold trains on, is chosen by, and is tested on: three disjoint parts."""

    training: Ints
    validation: Ints
    test: Ints


def folds_of(count: int, training: Training) -> list[Split]:
    """Split `count` graphs into folds, the same for a seed.

    Raises PredictorError for fewer than 3 graphs a fold, and fewer than the 8 that leave two folds 2 to train on.
    """
    least = max(3 * training.folds, 8)
    if count < least:
        raise PredictorError(f"{count} trials for {training.folds} folds, expected at least {least}")
    order = np.random.default_rng(training.seed).permutation(count)
    splits = []
    for test in np.array_split(order, training.folds):
        rest = order[~np.isin(order, test)]
        held = max(2, round(training.validation * len(rest)))
        splits.append(Split(rest[held:], rest[:held], test))
    return splits


@dataclass(frozen=True, eq=False)
class Prior:
    """A simpler prediction, to which a fold's network adds what it lacks.

    Of any graph it is what `link` makes of `constant` and what each node's row of the feature table adds, `rows` (R,);
    of the graphs that the fold is made of it is `offsets` (graphs,), where those to train on are predicted as if they
    were unknown.
    """

    rows: Floats
    constant: float
    link: Link
    offsets: Floats

    def of(self, graphs: GraphSet) -> Floats:
        """Return the prediction of every graph (graphs,)."""
        return self.link.back(np.add.reduceat(self.rows[graphs.rows], graphs.starts[:-1]) + self.constant)


@dataclass(frozen=True, eq=False)
class Fold:
    """A trained predictor: weights, target mean and deviation, and what turns embeddings into scores.

    With a `prior`, `deviation` is that of what the network adds to it.
    `hop_weights`, `hop_means` and `hop_deviations` (5,) are of the L1 norms at every hop; hops that no unit has weigh
    0. `metrics` are of the test part; `test` its graphs and `predicted` their predictions.
    """

    weights: Mapping[str, Tensor]
    mean: float
    deviation: float
    hop_weights: Floats
    hop_means: Floats
    hop_deviations: Floats
    metrics: Mapping[str, float]
    test: Ints
    predicted: Floats
    epochs: int
    seconds: float
    prior: Prior | None

    def of(self, graphs: GraphSet, found: Floats) -> Floats:
        """Return the target of graphs (graphs,), of which the network `found` standardized values."""
        return np.asarray(found * self.deviation + (self.mean if self.prior is None else self.prior.of(graphs)))


def build(
    fields: Mapping[str, tuple[str, ...]], numbers: tuple[str, ...], hops: tuple[int, ...], training: Training
) -> HopNetwork:
    """Make an untrained predictor for features as in `GraphSet`, with a head that reads `hops`."""
    kind = NodeEmbedding if training.embedding == "plain" else FeatureMLP
    return HopNetwork(kind(fields, len(numbers)), hops, training.attention)


def predict(model: HopNetwork, table: Table, graphs: GraphSet, chosen: Ints, batch: int = 128) -> tuple[Floats, Floats]:
    """Return standardized predictions (n,) and hop scores (n, 5) of the graphs `chosen`, in their order."""
    model.eval()
    found = []
    with torch.no_grad():
        for part in np.array_split(chosen, max(1, math.ceil(len(chosen) / batch))):
            prediction, scores = model(table, graphs.layout(part, LAYERS))
            found.append(torch.cat([prediction[:, None], scores], dim=1).double().cpu().numpy())
    values = np.concatenate(found)
    return values[:, 0], values[:, 1:]


def node_norms(model: HopNetwork, table: Table, graphs: GraphSet, chosen: Ints) -> Floats:
    """Return the L1 norms of all nodes' embeddings at every hop (nodes, 5), of the graphs `chosen`, in their order."""
    layout = graphs.layout(chosen, LAYERS)
    model.eval()
    with torch.no_grad():
        found = [x.abs().sum(1).double().cpu().numpy() for x in model.nodes(table, layout)]
    return np.stack([found[0][layout.rows], *found[1:]], axis=1)


def train_fold(graphs: GraphSet, y: Floats, split: Split, training: Training, prior: Prior | None = None) -> Fold:
    """Train one predictor of `y` (graphs,) with AdamW and a cosine schedule, and test it.

    With a `prior` the network learns what that lacks. It stops early by its loss on the validation part. The hop
    weights are each hop's SRCC, NDCG@10 or their product (by loss) on that part; means and deviations are over all
    nodes of the training part.
    """
    start = time.perf_counter()
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed)  # weights are drawn on the CPU, wherever they go
        torch.set_num_threads(1)  # folds run side by side
        try:
            run = _Run(graphs, y, split, training, prior)
            weights, epochs = run.fit()
            metrics, predicted = run.test()
            moments = run.moments()
        finally:
            torch.set_num_threads(threads)
    seconds = time.perf_counter() - start
    hops = (run.hop_weights(), *moments)
    return Fold(
        weights, run.mean, run.deviation * run.share, *hops, metrics, split.test, predicted, epochs, seconds, prior
    )


class _Run:
    """The training of one fold."""

    def __init__(self, graphs: GraphSet, y: Floats, split: Split, training: Training, prior: Prior | None) -> None:
        self.graphs, self.y, self.split, self.training = graphs, y, split, training
        self.device = training.place()
        self.table = Table.of(graphs, Scale.of(graphs)).to(self.device)
        self.hops = list(graphs.hops(LAYERS))
        self.model = build(graphs.fields, graphs.numbers, tuple(self.hops), training).to(self.device)
        self.mean, self.deviation = float(y[split.training].mean()), float(y[split.training].std()) or 1.0
        self.target = torch.from_numpy((y - self.mean) / self.deviation).float().to(self.device)
        self.start = np.full(len(y), self.mean) if prior is None else prior.offsets
        self.offsets = torch.from_numpy((self.start - self.mean) / self.deviation).float().to(self.device)
        self.share = 1.0
        self.prior = prior
        if prior is not None:
            self.model.start_at_zero()
        self.grades = relevance(y, y[split.training])

    def fit(self) -> tuple[dict[str, Tensor], int]:
        """Train; return the best weights, which the model then has, on the CPU, and the number of epochs."""
        training, parameters = self.training, list(self.model.parameters())
        optimizer = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.epochs)
        order = np.random.default_rng(training.seed)
        best, best_epoch, epoch, kept = math.inf, 0, 0, copy.deepcopy(self.model.state_dict())
        while epoch < training.epochs and epoch - best_epoch < training.patience:
            epoch += 1
            self.model.train()
            shuffled = order.permutation(self.split.training)
            for part in self._batches(shuffled):
                prediction, scores = self.model(self.table, self.graphs.layout(part, LAYERS))
                loss = self._loss(prediction, scores, part)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, training.clip)
                optimizer.step()
            schedule.step()
            self._calibrate()
            held = self._held_loss()
            if held < best:
                best, best_epoch, kept = held, epoch, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(kept)
        if self.prior is not None:
            self.share = self._share()
        return {name: tensor.cpu() for name, tensor in kept.items()}, epoch

    def _share(self) -> float:
        """Return how much of what the network adds to the prior is best for the validation part, 0 to 1."""
        part = self.split.validation
        added, _ = self._predict(part)
        lacking = (self.y - self.start)[part] / self.deviation
        return float(np.clip((added @ lacking) / max(float(added @ added), _TINY), 0, 1))

    def _calibrate(self) -> None:
        """Measure every batch norm's statistics anew over the training part.

        With three batches an epoch running averages stay far behind the weights. Wu and Johnson, Rethinking "Batch" in
        BatchNorm (2021), Sec. 3.
        """
        norms = [module for module in self.model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
        self.model.train()
        for number, part in enumerate(self._batches(self.split.training), 1):
            for norm in norms:
                norm.momentum = 1 / number
            with torch.no_grad():
                self.model(self.table, self.graphs.layout(part, LAYERS))

    def _batches(self, part: Ints) -> list[Ints]:
        return np.array_split(part, math.ceil(len(part) / self.training.batch))

    def _loss(self, prediction: Tensor, scores: Tensor, part: Ints) -> Tensor:
        grades, weight = torch.from_numpy(self.grades[part]).to(self.device), self.training.rank_weight
        whole = prediction + self.offsets[part]
        return ranking_loss(self.training.loss, whole, scores[:, self.hops], self.target[part], grades, weight=weight)

    def _held_loss(self) -> float:
        part = self.split.validation
        prediction, scores = (torch.from_numpy(found).float().to(self.device) for found in self._predict(part))
        return float(self._loss(prediction, scores, part))

    def _predict(self, part: Ints) -> tuple[Floats, Floats]:
        return predict(self.model, self.table, self.graphs, part)

    def hop_weights(self) -> Floats:
        """Return how well every hop ranks the validation part (5,); 0 for hops that no unit has.

        A hop that ranks no better than chance still puts its own units' variants into an order.
        """
        part = self.split.validation
        _, scores = self._predict(part)
        weights = np.zeros(LAYERS + 1)
        for hop in self.hops:
            rank, gain = srcc(self.y[part], scores[:, hop]), ndcg(self.grades[part], scores[:, hop])
            weights[hop] = max(_LEAST_WEIGHT, {"srcc": rank, "ndcg": gain, "hybrid": rank * gain}[self.training.loss])
        return weights

    def moments(self) -> tuple[Floats, Floats]:
        """Return mean and deviation of the nodes' L1 norms at every hop, over all nodes of the training part."""
        part, count = self.split.training, 0
        sums, squares = np.zeros(LAYERS + 1), np.zeros(LAYERS + 1)
        for piece in self._batches(part):
            norms = node_norms(self.model, self.table, self.graphs, piece)
            sums, squares, count = sums + norms.sum(0), squares + np.square(norms).sum(0), count + len(norms)
        deviations = np.sqrt(np.maximum(squares / count - np.square(sums / count), 0))
        return sums / count, np.where(deviations > 0, deviations, 1.0)

    def test(self) -> tuple[dict[str, float], Floats]:
        """Return the metrics of the test part and its predictions."""
        part = self.split.test
        predicted, scores = self._predict(part)
        predicted = predicted * self.share * self.deviation + self.start[part]
        y, grades = self.y[part], self.grades[part]
        error = np.abs(y - predicted)
        metrics = {
            "srcc": srcc(y, predicted),
            "ndcg@10": ndcg(grades, predicted),
            "mae": float(error.mean()),
            "mape": float((error / np.maximum(np.abs(y), np.finfo(np.float64).eps)).mean()),
        }
        for hop in self.hops:
            metrics[f"srcc hop {hop}"] = srcc(y, scores[:, hop])
            metrics[f"ndcg@10 hop {hop}"] = ndcg(grades, scores[:, hop])
        return metrics, predicted
