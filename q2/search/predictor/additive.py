"""An additive predictor for few trials: of options and of the bank's errors, layer by layer, linear or as noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.fitted import Additive
from q2.search.predictor.link import BENDS, Link
from q2.search.predictor.noise import fit_noise
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.train import Prior, Training, folds_of

__all__ = ["Additive", "additive", "fit_additive", "fit_linear", "priors", "shared_groups"]

_PENALTIES = 10.0 ** np.arange(-3, 5, 0.5)
_OPTION, _SHARED, _ALL = 0.5, 0.5, 10.0
_MOST, _TINY = 2000, 1e-12


def additive(space: NodeSpace, chosen: Ints, y: Floats, training: Training) -> list[Additive]:
    """Return a fit for every fold, of all trials but its test part: `chosen` (trials, choices) and `y` (trials,).

    Features are the options, one-hot, and where the space has errors what an option's error is: a layer has a
    sensitivity of its own, and shares others with the layers of its role, of its block and with all. The last is hardly
    penalized, so that few trials leave the ranking by the sum of errors. Errors are taken as they are, or their square
    roots beside the layer's mean, or as noise (`fit_noise`); of these, of links and of penalties, the least
    leave-one-out error decides. Raises PredictorError for too few trials.
    """
    return [fit_additive(space, chosen[kept], y[kept]) for kept in _kept(len(y), training)]


def priors(space: NodeSpace, fits: Sequence[Additive], chosen: Ints, training: Training) -> list[Prior]:
    """Return `additive`'s fits to the trials `chosen` (trials, choices) for networks to add to."""
    first, found = _first(space), []
    for kept, fit in zip(_kept(len(chosen), training), fits, strict=True):
        offsets = fit.predict(chosen)
        offsets[kept] = fit.left_out
        rows = np.zeros(len(space.codes))
        rows[first[:, None] + np.arange(len(space.options))] = fit.table
        found.append(Prior(rows, fit.constant, fit.link, offsets))
    return found


def _kept(count: int, training: Training) -> list[Ints]:
    return [np.concatenate([split.training, split.validation]) for split in folds_of(count, training)]


@dataclass(frozen=True, eq=False)
class _Level:
    """Features of an option (choices, options, k) that the choices of a group (choices,) share a coefficient for."""

    features: Floats
    group: Ints

    def design(self, chosen: Ints) -> Floats:
        """Return the features of options (n, choices), summed by group, as (n, groups · k)."""
        picked = self.features[np.arange(len(self.group)), chosen]
        count = int(self.group.max()) + 1
        if count < len(self.group):
            member = np.zeros((len(self.group), count))
            member[np.arange(len(self.group)), self.group] = 1
            picked = np.einsum("ncf,cg->ngf", picked, member, optimize=True)
        return np.asarray(picked.reshape(len(picked), -1))

    @property
    def width(self) -> int:
        """How many features there are: columns of the design."""
        return (int(self.group.max()) + 1) * int(self.features.shape[2])

    def added(self, weights: Floats) -> Floats:
        """Return what every option adds (choices, options) by the weights (groups · k,) of the design."""
        own = weights.reshape(-1, self.features.shape[2])[self.group]
        return np.asarray((self.features * own[:, None]).sum(-1))


def _levels(space: NodeSpace) -> list[list[_Level]]:
    """Return the sets of features to choose from."""
    count = len(space.options)
    each = np.arange(len(space.choices))
    hot = _centred(np.broadcast_to(_OPTION * np.eye(count), (len(each), count, count)))
    if space.errors is None:
        return [[_Level(hot, each)]]
    mean = space.errors.mean(1, keepdims=True)
    root = np.sqrt(np.divide(space.errors, mean, out=np.zeros_like(space.errors), where=mean > 0))
    plain = space.errors / (float(space.errors.mean()) or 1.0)
    groups = shared_groups(space)
    found = []
    for errors, options in ((root, hot), (plain, _OPTION * hot)):
        own = _centred(errors[..., None])
        levels = [_Level(options, each), _Level(own, each), *(_Level(_SHARED * own, group) for group in groups)]
        found.append([*levels, _Level(_ALL * own, np.zeros_like(each))])
    return found


def _centred(features: Floats) -> Floats:
    return np.asarray(features - features.mean(1, keepdims=True))


def shared_groups(space: NodeSpace) -> list[Ints]:
    """Return numbers of what choices share sensitivities with: their role, and their block, (choices,) each."""
    return [_groups(space, "stage", "role"), _groups(space, "stage", "block")]


def _groups(space: NodeSpace, *fields: str) -> Ints:
    """Return a group number for every choice (choices,); choices with equal values of some fields share a group."""
    names = list(space.fields)
    codes = space.codes[_first(space)][:, [names.index(field) for field in fields]]
    return np.asarray(np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1))


def _first(space: NodeSpace) -> Ints:
    """Return the first row of features of every choice (choices,)."""
    first = {name: space.first[node] for node, name in enumerate(space.topology.nodes)}
    return np.array([first[name] for name in space.choices])


def fit_additive(space: NodeSpace, chosen: Ints, y: Floats) -> Additive:
    """Return the fit of all trials, options `chosen` (trials, choices) and targets `y` (trials,): linear or of noise.

    The one with the less leave-one-out error. Without errors, or where an option's is infinite, it is `fit_linear`.
    """
    linear = fit_linear(space, chosen, y)
    if space.errors is None or not np.isfinite(space.errors).all() or space.errors.min() < 0:
        return linear
    noise = fit_noise(space.errors, shared_groups(space), chosen, y)
    return min(linear, noise, key=lambda fit: float(np.square(y - fit.left_out).sum()))


def fit_linear(space: NodeSpace, chosen: Ints, y: Floats) -> Additive:
    """Return ridge regression of all trials, options `chosen` (trials, choices) and targets `y` (trials,).

    It is the one with the least leave-one-out error of all sets of features, all links and all penalties. Where there
    are more than `_MOST` trials and features, so many trials decide on these, and one fit of all follows: time grows
    with the cube of the smaller number.
    """
    found = []
    links = [Link(float(y.mean()), float(y.std()) or 1.0, bend) for bend in BENDS]
    for levels in _levels(space):
        rows = _deciding(y, sum(level.width for level in levels))
        x = _design(levels, chosen[rows])
        found.append((levels, rows, _fit(x, y[rows], links)))
    levels, rows, fit = min(found, key=lambda each: each[2].error)
    if len(rows) < len(y):
        fit = _refit(_design(levels, chosen), y, fit)
    pieces = np.split(fit.weights, np.cumsum([level.width for level in levels])[:-1])
    table = sum((level.added(piece) for level, piece in zip(levels, pieces, strict=True)), np.zeros(1))
    sums = table[np.arange(len(table)), chosen].sum(1)
    return Additive(table, float((fit.link.straight(y) - sums).mean()), fit.link, fit.left_out)


def _deciding(y: Floats, features: int) -> Ints:
    """Return the trials that decide: all, or `_MOST` evenly spread over the sorted targets."""
    if min(len(y), features) <= _MOST:
        return np.arange(len(y))
    order = np.argsort(y, kind="stable")
    return np.asarray(order[np.linspace(0, len(y) - 1, _MOST).round().astype(np.int64)])


def _design(levels: Sequence[_Level], chosen: Ints) -> Floats:
    return np.concatenate([level.design(chosen) for level in levels], axis=1)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Weights (d,) of a ridge regression, what was decided on, and its leave-one-out error and predictions (n,)."""

    weights: Floats
    link: Link
    penalty: float
    error: float
    left_out: Floats


def _fit(x: Floats, y: Floats, links: list[Link]) -> _Fit:
    """Return the ridge regression of `y` (n,) on `x` (n, d) with the link and penalty of least leave-one-out error.

    That has a closed form by the singular values of `x`, found from the smaller of its two Gram matrices.
    """
    centred = x - x.mean(0)
    wide = len(centred) <= centred.shape[1]
    values, vectors = np.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
    if not wide:
        kept = values > _TINY * values[-1]
        values, vectors = values[kept], (centred @ vectors[:, kept]) / np.sqrt(values[kept])
    squares, best, dual = np.square(vectors), _Fit(np.zeros(0), links[0], float(_PENALTIES[-1]), np.inf, y), y
    for link in links:
        z = link.straight(y)
        rest = z - z.mean()
        along = vectors.T @ rest
        for penalty in _PENALTIES.tolist():
            shrunk = values / (values + penalty)
            leverage = squares @ shrunk + 1 / len(y)
            left_out = link.back(z - (rest - vectors @ (shrunk * along)) / (1 - leverage))
            error = float(np.square(y - left_out).mean())
            if error < best.error:
                best, dual = _Fit(best.weights, link, penalty, error, left_out), vectors @ (along / (values + penalty))
    return replace(best, weights=np.asarray(centred.T @ dual))


def _refit(x: Floats, y: Floats, fit: _Fit) -> _Fit:
    """Return the same regression of all trials, of which some decided on link and penalty."""
    centred, z = x - x.mean(0), fit.link.straight(y)
    rest = z - z.mean()
    if len(x) <= x.shape[1]:
        factor = cholesky(centred @ centred.T + fit.penalty * np.eye(len(x)), lower=True)
        inverse = solve_triangular(factor, np.eye(len(x)), lower=True)
        dual = inverse.T @ (inverse @ rest)
        leverage = 1 - fit.penalty * np.square(inverse).sum(0)
        weights = centred.T @ dual
    else:
        factor = cholesky(centred.T @ centred + fit.penalty * np.eye(x.shape[1]), lower=True)
        half = solve_triangular(factor, centred.T, lower=True)
        leverage = np.square(half).sum(0)
        weights = solve_triangular(factor, half @ rest, lower=True, trans=1)
    left_out = fit.link.back(z - (rest - centred @ weights) / (1 - leverage - 1 / len(y)))
    return replace(fit, weights=np.asarray(weights), left_out=left_out)
