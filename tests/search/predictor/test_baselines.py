"""Baselines: ridge is scikit-learn's, and each ranks trials that it can rank."""

import numpy as np
from sklearn.linear_model import Ridge

from q2.search.predictor import baselines as module
from q2.search.predictor.additive import additive
from q2.search.predictor.baselines import ADDITIVE, baselines, ridge
from q2.search.predictor.losses import srcc
from q2.search.predictor.train import Training, folds_of
from tests.search.predictor.spaces import space, trials


def test_ridge_is_scikit_learns_with_one_of_the_penalties() -> None:
    dit = space("dit")
    chosen, y = trials(dit, 60)
    split = folds_of(60, Training(folds=3))[0]
    found = ridge(chosen, 4, y, split).reshape(-1)
    hot, both = np.eye(4)[chosen].reshape(60, -1), np.concatenate([split.training, split.validation])
    fits = [Ridge(alpha=penalty).fit(hot[both], y[both]).coef_ for penalty in module._PENALTIES]
    assert min(float(np.abs(fit - found).max()) for fit in fits) < 1e-9


def test_ridge_finds_a_sum_over_layers_and_the_others_what_they_measure() -> None:
    dit = space("dit")
    chosen, y = trials(dit, 300)
    assert dit.errors is not None
    training = Training(folds=3)
    found = baselines(dit, chosen, y, training, additive(dit, chosen, y, training))
    assert set(found) == {"ridge", ADDITIVE, "sum of errors", "avg_bits"}
    assert found["ridge"]["srcc"].min() > 0.95
    exact = -dit.errors[np.arange(len(dit.choices)), chosen].sum(1)
    fits = additive(dit, chosen, exact, training)
    assert baselines(dit, chosen, exact, training, fits)["sum of errors"]["srcc"].tolist() == [1, 1, 1]
    bits = dit.avg_bits(chosen)
    splits = folds_of(300, Training(folds=3))
    assert found["avg_bits"]["srcc"].tolist() == [srcc(y[s.test], bits[s.test]) for s in splits]
