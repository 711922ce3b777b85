"""A linear predictor for few trials: ridge regression on options and on the bank's errors, layer by layer."""

from __future__ import annotations

import numpy as np

from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.space import Space
from q2.search.predictor.train import Training, folds_of

__all__ = ["linear"]

_PENALTIES = 10.0 ** np.arange(-2, 4, 0.5)
_OPTION = 0.5


def linear(space: Space, chosen: Ints, y: Floats, training: Training) -> Floats:
    """Return what an option adds to the target (choices, options, folds), one fit without every fold's test part.

    Features are the options, one-hot and halved, and where the space has errors the square root of the option's over
    its choice's mean: a layer has a sensitivity of its own, and its options share it. The penalty is that with the
    least leave-one-out error. Raises PredictorError for too few trials.
    """
    features = _features(space)
    columns = np.arange(len(space.choices))
    found = []
    for split in folds_of(len(y), training):
        kept = np.concatenate([split.training, split.validation])
        weights = _fit(features[columns, chosen[kept]].reshape(len(kept), -1), y[kept])
        found.append((features * weights.reshape(len(columns), 1, -1)).sum(-1))
    return np.stack(found, axis=-1)


def _features(space: Space) -> Floats:
    """Return the features (choices, options, ·) of an option, centred over a choice's."""
    count = len(space.options)
    hot = np.broadcast_to(_OPTION * np.eye(count), (len(space.choices), count, count))
    if space.errors is None:
        return hot
    mean = space.errors.mean(1, keepdims=True)
    root = np.sqrt(np.divide(space.errors, mean, out=np.zeros_like(space.errors), where=mean > 0))
    return np.concatenate([hot, (root - root.mean(1, keepdims=True))[..., None]], axis=2)


def _fit(x: Floats, y: Floats) -> Floats:
    """Return the weights of ridge regression of `y` (n,) on `x` (n, d); leave-one-out errors are in closed form."""
    centred, rest = x - x.mean(0), y - y.mean()
    values, vectors = np.linalg.eigh(centred @ centred.T)
    best = (np.inf, 0.0)
    for penalty in _PENALTIES.tolist():
        hat = (vectors * (values / (values + penalty))) @ vectors.T + 1 / len(y)
        error = float(np.square((rest - hat @ rest) / (1 - np.diag(hat))).mean())
        best = min(best, (error, penalty))
    dual = vectors @ ((vectors.T @ rest) / (values + best[1]))
    return np.asarray(centred.T @ dual)
