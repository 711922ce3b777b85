"""Ridge on options and errors finds sensitivities from few trials, where one-hot options alone do not."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from q2.errors import PredictorError
from q2.search.metrics.rank import spearman
from q2.search.predictor import additive as module
from q2.search.predictor.additive import additive, fit_additive, fit_linear
from q2.search.predictor.baselines import ADDITIVE, baselines
from q2.search.predictor.link import BENDS, Link
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
    found = module._fit(x, y, [Link(0.0, 1.0)])
    weights, link, predicted = found.weights, found.link, found.left_out
    assert link.bend == 0
    np.testing.assert_allclose(weights, Ridge(alpha=best).fit(x, y).coef_, atol=1e-9)
    assert np.square(y - predicted).mean() == pytest.approx(left_out(best))


def test_a_bent_sum_is_found_to_be_one() -> None:
    dit, training = space("dit"), Training(folds=3)
    chosen, y = trials(dit, 120)
    bent = Link(0.0, 1.0, 0.6).back((y - y.mean()) / y.std() / 2)
    new, truth = trials(dit, 200, seed=9)
    (fit, *_) = additive(dit, chosen, bent, training)
    (plain, *_) = additive(dit, chosen, y, training)
    assert fit.link.bend > plain.link.bend == 0
    wanted = Link(0.0, 1.0, 0.6).back((truth - y.mean()) / y.std() / 2)
    assert np.square(fit.predict(new) - wanted).mean() < 0.01 * wanted.var()


def test_layers_that_share_a_sensitivity_help_each_other() -> None:
    dit, training = space("dit"), Training(folds=3)
    assert dit.errors is not None
    roles = module._groups(dit, "stage", "role")
    cost = dit.errors * np.random.default_rng(4).lognormal(0, 1, roles.max() + 1)[roles][:, None]
    chosen = np.random.default_rng(5).integers(0, len(dit.options), (45, len(dit.choices)))
    y = -cost[np.arange(len(cost)), chosen].sum(1)
    found = baselines(dit, chosen, y, training, additive(dit, chosen, y, training))
    assert found[ADDITIVE]["srcc"].mean() > max(0.95, found["ridge"]["srcc"].mean() + 0.02)


@pytest.mark.parametrize("features", [20, 80])
def test_a_fit_of_all_trials_is_the_one_that_some_decided_on(features: int) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(50, features)), rng.normal(size=50)
    found = module._fit(x, y, [Link(0.0, 1.0, 0.3)])
    again = module._refit(x, y, found)
    np.testing.assert_allclose(again.weights, found.weights, atol=1e-9)
    np.testing.assert_allclose(again.left_out, found.left_out, atol=1e-9)


def test_where_trials_are_many_some_decide_and_all_count(monkeypatch: pytest.MonkeyPatch) -> None:
    dit = space("dit")
    chosen, y = trials(dit, 150)
    whole = fit_linear(dit, chosen, y)
    monkeypatch.setattr(module, "_MOST", 100)
    some = fit_linear(dit, chosen, y)
    assert len(some.left_out) == 150
    assert spearman(some.predict(chosen), whole.predict(chosen)) > 0.99


@pytest.mark.parametrize("bend", BENDS)
def test_a_link_goes_back_and_its_slope_is_the_derivative(bend: float) -> None:
    link, y = Link(3.0, 2.0, bend), np.linspace(0.0, 6.0, 7)
    np.testing.assert_allclose(link.back(link.straight(y)), y)
    for value in y.tolist():
        z = float(link.straight(np.array([value]))[0])
        steps = link.back(np.array([z - 1e-6, z + 1e-6]))
        assert link.slope(value) == pytest.approx((steps[1] - steps[0]) / 2e-6, rel=1e-4)


def test_errors_help_where_trials_are_few() -> None:
    dit = space("dit")
    chosen, y = trials(dit, 60)
    training = Training(folds=3)
    found = baselines(dit, chosen, y, training, additive(dit, chosen, y, training))
    assert found[ADDITIVE]["srcc"].mean() > found["ridge"]["srcc"].mean() + 0.05


def test_few_trials_rank_no_worse_than_the_errors_alone() -> None:
    """The target is the sum of errors as decibels, with a little of each layer's own."""
    dit = space("dit")
    assert dit.errors is not None
    rng, places = np.random.default_rng(2), np.arange(len(dit.choices))
    cost = dit.errors * rng.lognormal(0, 0.3, (len(dit.choices), 1))
    chosen = rng.integers(0, len(dit.options), (400, len(dit.choices)))
    y = -10 * np.log10(cost[places, chosen].sum(1))
    errors = spearman(-dit.errors[places, chosen].sum(1), y)
    for count, slack in ((8, 0.02), (25, 0.0), (100, -0.02)):
        draws = [rng.permutation(400) for _ in range(8)]
        fits = [fit_additive(dit, chosen[order[:count]], y[order[:count]]) for order in draws]
        found = [spearman(fit.predict(chosen), y) for fit in fits]
        assert np.mean(found) > errors - slack


def test_a_fold_does_not_see_its_test_part() -> None:
    dit, training = space("dit"), Training(folds=3)
    chosen, y = trials(dit, 60)
    first = folds_of(60, training)[0]
    changed = y.copy()
    changed[first.test] = 1e6
    before, after = additive(dit, chosen, y, training), additive(dit, chosen, changed, training)
    assert np.array_equal(before[0].table, after[0].table)
    assert not np.allclose(before[1].table, after[1].table)


def test_too_few_trials_are_named() -> None:
    with pytest.raises(PredictorError, match="^8 trials for 3 folds, expected at least 9$"):
        additive(space("dit"), *trials(space("dit"), 8), Training(folds=3))
