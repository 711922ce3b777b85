"""Simple predictors on the same folds that a GNN has to beat: ridge regressions, the sum of errors, avg_bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.linalg import solve

from q2.search.predictor.additive import Additive
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.losses import ndcg, relevance, srcc
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.train import Split, Training, folds_of

__all__ = ["ADDITIVE", "baselines", "ridge"]

ADDITIVE = "additive fit"

_PENALTIES: Floats = np.logspace(-2, 3, 6)
_MOST = 2000


def ridge(chosen: Ints, options: int, y: Floats, split: Split) -> Floats:
    """Return coefficients (choices, options) of ridge regression on one-hot options.

    The penalty with the best SRCC on the validation part is used to fit training and validation part together. Of a
    longer training part the first `_MOST` trials choose it.
    """
    hot = np.eye(options)[chosen].reshape(len(chosen), -1)
    some = split.training[:_MOST]
    fits = _fits(hot[some], y[some], _PENALTIES)
    scores = [srcc(y[split.validation], hot[split.validation] @ fit) for fit in fits]
    both = np.concatenate([split.training, split.validation])
    (fit,) = _fits(hot[both], y[both], _PENALTIES[[int(np.argmax(scores))]])
    return fit.reshape(-1, options)


def _fits(hot: Floats, y: Floats, penalties: Floats) -> list[Floats]:
    """Return the weights (d,) for every penalty, by the smaller of the two Gram matrices of `hot` (n, d)."""
    centred, rest = hot - hot.mean(0), y - y.mean()
    wide = len(hot) <= hot.shape[1]
    gram, right = (centred @ centred.T, rest) if wide else (centred.T @ centred, centred.T @ rest)
    one = np.eye(len(gram))
    found = [solve(gram + penalty * one, right, assume_a="pos") for penalty in penalties.tolist()]
    return [np.asarray(centred.T @ each if wide else each) for each in found]


def baselines(
    space: NodeSpace, chosen: Ints, y: Floats, training: Training, fits: Sequence[Additive]
) -> dict[str, Mapping[str, Floats]]:
    """Return SRCC and NDCG@10 on the test part of every fold, by baseline (folds,).

    ``ridge`` is on one-hot options, as `ridge` says; `ADDITIVE` are the `fits` of `additive`.
    """
    splits = folds_of(len(chosen), training)
    columns = np.arange(len(space.choices))
    fixed = {"avg_bits": space.avg_bits(chosen)}
    if space.errors is not None:
        fixed["sum of errors"] = -np.asarray(space.errors[columns, chosen].sum(1))
    predicted = {name: [scores] * len(splits) for name, scores in fixed.items()}
    ridges = [ridge(chosen, len(space.options), y, split) for split in splits]
    predicted["ridge"] = [fit[columns, chosen].sum(1) for fit in ridges]
    predicted[ADDITIVE] = [fit.predict(chosen) for fit in fits]
    found: dict[str, Mapping[str, Floats]] = {}
    for name, scores in predicted.items():
        pairs = [(s.test, relevance(y, y[s.training])[s.test], p[s.test]) for s, p in zip(splits, scores, strict=True)]
        found[name] = {
            "srcc": np.array([srcc(y[test], part) for test, _, part in pairs]),
            "ndcg@10": np.array([ndcg(grades, part) for _, grades, part in pairs]),
        }
    return found
