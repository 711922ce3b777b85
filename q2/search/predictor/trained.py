"""A trained predictor: the folds' networks together, what they predict, and its file."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from q2.config import dotted, validate
from q2.errors import PredictorError, Q2Error, there_are, why
from q2.files import read_json, replacing, write_text
from q2.progress import Progress, silent
from q2.search.predictor.dataset import Floats, GraphSet
from q2.search.predictor.features import FeatureMLP
from q2.search.predictor.link import Link
from q2.search.predictor.model import LAYERS, HopNetwork, Scale, Table
from q2.search.predictor.train import Fold, Prior, Training, build, folds_of, predict, train_fold

if TYPE_CHECKING:
    from q2.search.predictor.space import NodeSpace

__all__ = ["Trained", "train"]

_VERSION = 2
_DAMAGED = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, MemoryError)
_TENSORS, _HEAD = "predictor.safetensors", "predictor.json"


def train(
    graphs: GraphSet,
    target: str,
    training: Training | None = None,
    jobs: int = 1,
    progress: Progress = silent,
    *,
    priors: Sequence[Prior] = (),
) -> Trained:
    """Train a predictor of the metric `target` (more is better) on k folds, `jobs` at a time.

    With `priors`, one a fold, networks add to them. Raises PredictorError for an unknown metric, one that is constant,
    NaN or infinite, and too few graphs.
    """
    training = training or Training()
    if target not in graphs.metrics:
        raise PredictorError(f"no metric {target!r} in these trials{there_are(target, graphs.metrics)}")
    y = np.asarray(graphs.metrics[target], dtype=np.float64)
    if not np.isfinite(y).all():
        raise PredictorError(
            f"target {target!r}: {int((~np.isfinite(y)).sum())} of {len(y)} trials are NaN or infinite"
        )
    splits = folds_of(len(graphs), training)
    if np.ptp(y) == 0:
        raise PredictorError(f"target {target!r} is {y[0]:g} in all {len(y)} trials: there is nothing to rank")
    run = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(train_fold)(graphs, y, split, training, prior)
        for split, prior in zip(splits, list(priors) or repeat(None, len(splits)), strict=True)
    )
    folds = tuple(progress(run, "training folds", len(splits)))
    scale = Scale.of(graphs)
    return Trained(training, target, dict(graphs.fields), graphs.numbers, graphs.hops(LAYERS), scale, folds)


@dataclass(frozen=True, eq=False)
class Trained:
    """One predictor a fold, with the features they know: `fields` and `numbers` as in `GraphSet`."""

    training: Training
    target: str
    fields: Mapping[str, tuple[str, ...]]
    numbers: tuple[str, ...]
    hops: tuple[int, ...]
    scale: Scale
    folds: tuple[Fold, ...]

    def models(self) -> Iterator[HopNetwork]:
        """Yield every fold's network, ready to predict."""
        return iter(self._networks)

    @cached_property
    def _networks(self) -> list[HopNetwork]:
        networks = []
        for fold in self.folds:
            model = build(self.fields, self.numbers, self.hops, self.training)
            model.load_state_dict(dict(fold.weights))
            networks.append(model.eval())
        return networks

    def table(self, features: GraphSet | NodeSpace) -> Table:
        """Return the table of a graph set or space. Raises PredictorError where it has other features."""
        if dict(features.fields) != dict(self.fields) or features.numbers != self.numbers:
            names = [*self.fields, *self.numbers]
            raise PredictorError(f"the predictor is for another denoiser: its {', '.join(names)} have other values")
        return Table.of(features, self.scale)

    def predict(self, graphs: GraphSet) -> tuple[Floats, Floats]:
        """Return the target's predicted mean over the folds, and its deviation over them, both (graphs,)."""
        found = self.each(graphs)
        with np.errstate(over="ignore"):
            return found.mean(axis=0), found.std(axis=0)

    def each(self, graphs: GraphSet) -> Floats:
        """Return the target as every fold predicts it (folds, graphs)."""
        table, chosen = self.table(graphs), np.arange(len(graphs))
        pairs = zip(self._networks, self.folds, strict=True)
        return np.array([fold.of(graphs, predict(model, table, graphs, chosen)[0]) for model, fold in pairs])

    def importance(self) -> dict[str, dict[str, Floats]]:
        """Return what every value of every feature adds to a node's score at hop 0, by fold (AutoBuild, FE-MLP).

        Of a number: at one deviation below its mean, at it, and above. Raises PredictorError for a plain embedding,
        from which this cannot be read.
        """
        if self.training.embedding != "fe-mlp":
            raise PredictorError("importance: this predictor has embedding 'plain', train one with 'fe-mlp'")
        values = [model.embedding.values() for model in self.models() if isinstance(model.embedding, FeatureMLP)]
        names = [*self.fields.items(), *((name, ("low", "mean", "high")) for name in self.numbers)]
        return {
            name: {label: np.array([fold[i][j] for fold in values]) for j, label in enumerate(labels)}
            for i, (name, labels) in enumerate(names)
        }

    def summary(self) -> dict[str, tuple[float, float]]:
        """Return mean and deviation over the folds of every metric of the test parts."""
        names = self.folds[0].metrics
        columns = {name: [fold.metrics[name] for fold in self.folds] for name in names}
        with np.errstate(over="ignore"):
            return {name: (float(np.mean(column)), float(np.std(column))) for name, column in columns.items()}

    def save(self, folder: str | Path) -> None:
        """Write ``predictor.safetensors`` and ``predictor.json`` into a folder, each whole or not at all.

        Raises PredictorError where they cannot be written.
        """
        tensors = {f"{i}.{name}": tensor for i, fold in enumerate(self.folds) for name, tensor in fold.weights.items()}
        folds = [{key: _plain(value) for key, value in vars(fold).items() if key != "weights"} for fold in self.folds]
        try:
            data = safetensors.torch.save(tensors)
            with replacing(Path(folder) / _TENSORS) as beside:
                beside.write_bytes(data)
            head = {
                "q2": "predictor",
                "version": _VERSION,
                "sha256": hashlib.sha256(data).hexdigest(),
                "training": asdict(self.training),
                "target": self.target,
                "fields": self.fields,
                "numbers": self.numbers,
                "hops": self.hops,
                "scale": {key: _plain(value) for key, value in vars(self.scale).items()},
                "folds": folds,
            }
            write_text(Path(folder) / _HEAD, json.dumps(head, indent=1) + "\n")
        except OSError as error:
            raise PredictorError(f"{folder}: cannot be written: {why(error)}") from error

    @classmethod
    def load(cls, folder: str | Path) -> Trained:
        """Read a folder that `save` wrote. Raises PredictorError, one line, for a missing or damaged one."""
        try:
            head = read_json(Path(folder) / _HEAD)
            data = (Path(folder) / _TENSORS).read_bytes()
        except (OSError, ValueError) as error:
            raise PredictorError(f"{folder}: no predictor can be read: {why(error)}") from error
        if not isinstance(head, dict) or (head.get("q2"), head.get("version")) != ("predictor", _VERSION):
            raise PredictorError(f"{folder}: {_HEAD}: expected a predictor, version {_VERSION}")
        if head.get("sha256") != hashlib.sha256(data).hexdigest():
            raise PredictorError(f"{folder}: {_TENSORS} is damaged, or not the one that {_HEAD} was written with")
        try:
            tensors = safetensors.torch.load(data)
            folds = tuple(_fold(i, entry, tensors) for i, entry in enumerate(head["folds"]))
            fields = {name: tuple(values) for name, values in head["fields"].items()}
            scale = Scale(**{key: np.array(value, dtype=np.float64) for key, value in head["scale"].items()})
            shape = (fields, tuple(head["numbers"]), tuple(head["hops"]))
            _ = Training(**head["training"])  # which knows its keys; their types are checked next
            training = validate(Training, head["training"], lambda key: f"training.{dotted(key)}")
            trained = cls(training, str(head["target"]), *shape, scale, folds)
            texts = [text for values in (*fields.values(), shape[1]) for text in values]
            if not folds or not all(isinstance(text, str) for text in texts):
                raise ValueError("no folds, or a name that is no text")
            if not all(isinstance(hop, int) and 0 <= hop <= LAYERS for hop in trained.hops):
                raise ValueError(f"hops: expected whole numbers up to {LAYERS}")
            if any(
                each.shape != (len(trained.numbers),) or not np.isfinite(each).all() for each in vars(scale).values()
            ):
                raise ValueError("the scale is not one of its numbers")
            if any(fold.metrics.keys() != folds[0].metrics.keys() for fold in folds):
                raise ValueError("the folds have different metrics")
            list(trained.models())
        except (*_DAMAGED, SafetensorError, Q2Error) as error:
            reason = str(error).partition("\n")[0]
            raise PredictorError(f"{folder}: {_HEAD} is damaged: {type(error).__name__} {reason}") from error
        return trained


def _plain(value: Any) -> Any:
    if isinstance(value, Prior):
        return {"rows": value.rows.tolist(), "constant": value.constant, "link": asdict(value.link)}
    return value.tolist() if isinstance(value, np.ndarray) else dict(value) if isinstance(value, Mapping) else value


def _fold(i: int, entry: dict[str, Any], tensors: Mapping[str, Tensor]) -> Fold:
    prefix = f"{i}."
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise ValueError(f"a weight of fold {i} is NaN or infinite")
    arrays: dict[str, Any] = {key: np.array(v) if isinstance(v, list) else v for key, v in entry.items()}
    prior = arrays.pop("prior")
    if prior is not None:
        prior = Prior(np.array(prior["rows"]), float(prior["constant"]), Link(**prior["link"]), np.zeros(0))
        rows = prior.rows
        if rows.ndim != 1 or not all(isinstance(each, float) for each in vars(prior.link).values()):
            raise ValueError(f"the prior of fold {i}")
    fold = Fold(weights=weights, **arrays, prior=prior)
    hops = (fold.hop_weights, fold.hop_means, fold.hop_deviations)
    numbers = (fold.mean, fold.deviation, fold.seconds, fold.epochs, *fold.metrics.values())
    plain = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
    if not plain or any(each.shape != (LAYERS + 1,) or each.dtype.kind not in "fi" for each in hops):
        raise ValueError(f"the numbers of fold {i}")
    return fold
