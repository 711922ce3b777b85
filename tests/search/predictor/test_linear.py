"""Ridge on options and errors finds sensitivities from few trials, where one-hot options alone do not."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from q2.errors import PredictorError
from q2.search.predictor import linear as module
from q2.search.predictor.baselines import RIDGE, baselines
from q2.search.predictor.linear import linear
from q2.search.predictor.train import Training, folds_of
from tests.search.predictor.spaces import space, trials


def test_a_fit_is_scikit_learns_at_the_penalty_with_the_least_leave_one_out_error() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 50)), rng.normal(size=30)

    def left_out(penalty: float) -> float:
        errors = []
        for i in range(30):
            rest = np.delete(np.arange(30), i)
            errors.append(y[i] - Ridge(alpha=penalty).fit(x[rest], y[rest]).predict(x[i : i + 1])[0])
        return float(np.square(errors).mean())

    best = min(module._PENALTIES.tolist(), key=left_out)
    np.testing.assert_allclose(module._fit(x, y), Ridge(alpha=best).fit(x, y).coef_, atol=1e-9)


def test_errors_help_where_trials_are_few() -> None:
    dit = space("dit")
    chosen, y = trials(dit, 60)
    found = baselines(dit, chosen, y, Training(folds=3))
    assert found[RIDGE]["srcc"].mean() > found["ridge"]["srcc"].mean() + 0.05


def test_a_fold_does_not_see_its_test_part() -> None:
    dit, training = space("dit"), Training(folds=3)
    chosen, y = trials(dit, 60)
    first = folds_of(60, training)[0]
    changed = y.copy()
    changed[first.test] = 1e6
    before, after = linear(dit, chosen, y, training), linear(dit, chosen, changed, training)
    assert np.array_equal(before[:, :, 0], after[:, :, 0])
    assert not np.allclose(before[:, :, 1], after[:, :, 1])


def test_too_few_trials_are_named() -> None:
    with pytest.raises(PredictorError, match="^8 trials for 3 folds, expected at least 9$"):
        linear(space("dit"), *trials(space("dit"), 8), Training(folds=3))
