"""The fit of noise finds sensitivities over orders of magnitude, and its leave-one-out errors are what they say."""

import numpy as np
import pytest

from q2.search.metrics.rank import spearman
from q2.search.predictor import noise as module
from q2.search.predictor.additive import fit_additive, fit_linear
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.noise import DECIBELS, fit_noise
from tests.search.predictor.spaces import space


def planted(choices: int, count: int, spread: float, seed: int = 0) -> tuple[Floats, Floats, Ints, Floats]:
    """Return errors (choices, options), the last of them 0, log sensitivities, trials, and their SQNR in dB."""
    rng = np.random.default_rng(seed)
    errors = rng.lognormal(0, 1, (choices, 1)) * np.array([4.0, 1.0, 0.2, 0.0])
    logs = rng.normal(0, spread, choices)
    chosen = rng.integers(0, 4, (count, choices))
    noise = (errors * np.exp(logs)[:, None])[np.arange(choices), chosen].sum(1)
    return errors, logs, chosen, -10 * np.log10(noise)


def test_sensitivities_are_found_from_exact_trials() -> None:
    errors, logs, chosen, y = planted(12, 60, 1.0)
    fit = fit_noise(errors, [], chosen, y)
    np.testing.assert_allclose(np.log(-fit.table[:, 0] / errors[:, 0]).std(), logs.std(), rtol=0.1)
    new, truth = planted(12, 300, 1.0)[2:]
    assert np.abs(fit.predict(new) - truth).max() < 0.5


def test_choices_without_error_add_nothing_and_a_perfect_recipe_is_finite() -> None:
    errors, _, chosen, y = planted(5, 40, 1.0)
    fit = fit_noise(errors, [], chosen, y)
    assert not fit.table[:, 3].any()
    assert np.isfinite(fit.predict(np.full(5, 3)))
    assert fit.predict(np.full(5, 3)) > y.max() + 20


def test_leave_one_out_is_nearly_what_a_fit_without_the_trial_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PENALTIES", (10.0,))
    errors, _, chosen, y = planted(8, 30, 0.7)
    y = y + np.random.default_rng(1).normal(0, 0.5, 30)
    whole, found = fit_noise(errors, [np.arange(8) % 2], chosen, y), []
    for i in range(30):
        rest = np.delete(np.arange(30), i)
        found.append(float(fit_noise(errors, [np.arange(8) % 2], chosen[rest], y[rest]).predict(chosen[i])))
    assert np.abs(whole.left_out - found).max() < 0.2 * np.abs(y - found).max()


def test_what_is_known_before_is_where_few_trials_leave_it() -> None:
    errors, logs, chosen, y = planted(30, 300, 1.5)
    few = slice(0, 8)
    plain = fit_noise(errors, [], chosen[few], y[few])
    told = fit_noise(errors, [], chosen[few], y[few], known=logs)
    assert spearman(told.predict(chosen), y) > max(0.99, spearman(plain.predict(chosen), y))


def test_many_trials_decide_by_some_and_are_all_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, _, chosen, y = planted(12, 120, 1.0)
    whole = fit_noise(errors, [], chosen, y)
    monkeypatch.setattr(module, "_MOST", 60)
    some = fit_noise(errors, [], chosen, y)
    assert len(some.left_out) == 120
    np.testing.assert_allclose(some.predict(chosen), whole.predict(chosen), atol=0.2)


def test_a_ratio_in_decibels_is_fitted_as_noise_and_a_plain_sum_as_a_line() -> None:
    dit = space("dit")
    assert dit.errors is not None
    rng, places = np.random.default_rng(2), np.arange(len(dit.choices))
    cost = dit.errors * rng.lognormal(0, 2.0, (len(dit.choices), 1))
    chosen = rng.integers(0, len(dit.options), (400, len(dit.choices)))
    total, few = cost[places, chosen].sum(1), slice(0, 150)
    ratio = -10 * np.log10(total)
    found, line = (fit(dit, chosen[few], ratio[few]) for fit in (fit_additive, fit_linear))
    assert found.link.bend == pytest.approx(1 / DECIBELS)
    assert spearman(found.predict(chosen), ratio) > spearman(line.predict(chosen), ratio)
    assert fit_additive(dit, chosen, -np.square(total)).link.bend != pytest.approx(1 / DECIBELS)
