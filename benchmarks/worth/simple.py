"""Predictors without a graph: what engineers would reach for first. Each learns from trials and ranks others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.worth.data import Trials
from q2.search.predictor.additive import Additive, fit_additive, fit_linear, shared_groups
from q2.search.predictor.baselines import ridge
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.noise import fit_noise
from q2.search.predictor.train import Split

__all__ = ["SIMPLE", "Learn", "Learnt", "noise_of_trials"]


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was learnt: `predict` ranks options (n, choices); `spread` (choices,) says how much a choice matters."""

    predict: Callable[[Ints], Floats]
    spread: Floats | None = None


Learn = Callable[[Trials, Ints], Learnt]
"""Learns from the trials of these numbers."""


def _avg_bits(trials: Trials, _: Ints) -> Learnt:
    return Learnt(trials.space.avg_bits)


def _summed(table: Floats, trials: Trials) -> Learnt:
    return Learnt(lambda chosen: np.asarray(-trials.picked(table, chosen).sum(-1)), table.max(1))


def _output_error(trials: Trials, _: Ints) -> Learnt:
    return _summed(trials.errors, trials)


def _relative_error(trials: Trials, _: Ints) -> Learnt:
    return _summed(trials.errors / trials.signal[:, None], trials)


def _weight_error(trials: Trials, _: Ints) -> Learnt:
    return _summed(trials.weight_errors, trials)


def _alone(trials: Trials, _: Ints) -> Learnt:
    return _summed(trials.alone, trials)


def _ridge(trials: Trials, known: Ints) -> Learnt:
    held = max(2, len(known) // 8)
    split = Split(known[held:], known[:held], known[:0])
    table = ridge(trials.chosen, len(trials.space.options), trials.y, split)
    return Learnt(lambda chosen: np.asarray(trials.picked(table, chosen).sum(-1)), np.ptp(table, axis=1))


def _linear(trials: Trials, known: Ints) -> Learnt:
    fit = fit_linear(trials.space, trials.chosen[known], trials.y[known])
    return Learnt(fit.predict, np.ptp(fit.table, axis=1))


def _either(trials: Trials, known: Ints) -> Learnt:
    fit = fit_additive(trials.space, trials.chosen[known], trials.y[known])
    return Learnt(fit.predict, np.ptp(fit.table, axis=1))


def noise_of_trials(trials: Trials, known: Ints, sensitivities: Floats | None = None) -> Additive:
    """Return the noise fit of the trials of these numbers; `sensitivities` (choices,) are logs, expected."""
    groups = shared_groups(trials.space)
    return fit_noise(trials.errors, groups, trials.chosen[known], trials.y[known], known=sensitivities)


def _noise(trials: Trials, known: Ints) -> Learnt:
    fit = noise_of_trials(trials, known)
    return Learnt(fit.predict, np.ptp(fit.table, axis=1))


def _features(trials: Trials, chosen: Ints) -> Floats:
    """Return log10 of every layer's relative output error (n, choices), exact ones below all others."""
    errors = trials.errors / trials.signal[:, None]
    least = errors[errors > 0].min() / 10
    return np.asarray(np.log10(np.maximum(trials.picked(errors, chosen), least)))


def _trees(trials: Trials, known: Ints) -> Learnt:
    from sklearn.ensemble import HistGradientBoostingRegressor

    least = 5 if len(known) < 100 else 20
    trees = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, min_samples_leaf=least, random_state=0)
    trees.fit(_all_features(trials, trials.chosen[known]), trials.y[known])
    return Learnt(lambda chosen: np.asarray(trees.predict(_all_features(trials, chosen))))


def _all_features(trials: Trials, chosen: Ints) -> Floats:
    summed = np.log10(trials.picked(trials.errors, chosen).sum(1, keepdims=True))
    return np.concatenate([_features(trials, chosen), summed, trials.space.avg_bits(chosen)[:, None]], axis=1)


def _process(trials: Trials, known: Ints) -> Learnt:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(_all_features(trials, trials.chosen[known]))
    width = float(np.sqrt(scaler.n_features_in_))
    kernel = ConstantKernel(1.0) * RBF(2 * width, (0.3 * width, 100 * width)) + WhiteKernel(0.1)
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process.fit(scaler.transform(_all_features(trials, trials.chosen[known])), trials.y[known])
    return Learnt(lambda chosen: np.asarray(process.predict(scaler.transform(_all_features(trials, chosen)))))


SIMPLE: dict[str, Learn] = {
    "avg_bits": _avg_bits,
    "summed weight error": _weight_error,
    "summed output error": _output_error,
    "the same, relative": _relative_error,
    "summed noise, measured alone": _alone,
    "ridge, one-hot": _ridge,
    "gradient-boosted trees": _trees,
    "Gaussian process": _process,
    "linear additive fit": _linear,
    "noise fit": _noise,
    "the better by leave-one-out": _either,
}
"""The first five learn nothing."""
