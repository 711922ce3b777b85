"""An additive predictor for few trials: ridge regression on options and on the bank's errors, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.link import BENDS, Link
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.train import Prior, Training, folds_of

__all__ = ["Additive", "additive", "fit_additive", "priors"]

_PENALTIES = 10.0 ** np.arange(-3, 5, 0.5)
_OPTION, _SHARED, _ALL = 0.5, 0.5, 10.0


@dataclass(frozen=True, eq=False)
class Additive:
    """What options add (choices, options) to a sum, of which `link` makes the target.

    `left_out` (n,) are the trials of the fit, each predicted from the others.
    """

    table: Floats
    constant: float
    link: Link
    left_out: Floats

    def predict(self, chosen: Ints) -> Floats:
        """Return the target (...) of options (..., choices)."""
        sums = self.table[np.arange(len(self.table)), chosen].sum(-1)
        return self.link.back(sums + self.constant)


def additive(space: NodeSpace, chosen: Ints, y: Floats, training: Training) -> list[Additive]:
    """Return a fit for every fold, of all trials but its test part.

    Features are the options, one-hot, and where the space has errors what an option's error is: a layer has a
    sensitivity of its own, and shares others with the layers of its role, of its block and with all. The last is hardly
    penalized, so that few trials leave the ranking by the sum of errors. Errors are taken as they are, or their square
    roots beside the layer's mean; of these, of links and of penalties, the least leave-one-out error decides. Raises
    PredictorError for too few trials.
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
    groups = (_groups(space, "stage", "role"), _groups(space, "stage", "block"))
    found = []
    for errors, options in ((root, hot), (plain, _OPTION * hot)):
        own = _centred(errors[..., None])
        levels = [_Level(options, each), _Level(own, each), *(_Level(_SHARED * own, group) for group in groups)]
        found.append([*levels, _Level(_ALL * own, np.zeros_like(each))])
    return found


def _centred(features: Floats) -> Floats:
    return np.asarray(features - features.mean(1, keepdims=True))


def _groups(space: NodeSpace, *fields: str) -> Ints:
    """Return a number for every choice (choices,), the same for those that have the same values of some fields."""
    names = list(space.fields)
    codes = space.codes[_first(space)][:, [names.index(field) for field in fields]]
    return np.asarray(np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1))


def _first(space: NodeSpace) -> Ints:
    """Return the first row of features of every choice (choices,)."""
    first = {name: space.first[node] for node, name in enumerate(space.topology.nodes)}
    return np.array([first[name] for name in space.choices])


def fit_additive(space: NodeSpace, chosen: Ints, y: Floats) -> Additive:
    """Return the fit of all trials, options `chosen` (trials, choices) and targets `y` (trials,).

    It is the one with the least leave-one-out error of all sets of features and all links.
    """
    found: list[tuple[float, Additive]] = []
    links = [Link(float(y.mean()), float(y.std()) or 1.0, bend) for bend in BENDS]
    for levels in _levels(space):
        parts = [level.design(chosen) for level in levels]
        weights, link, left_out = _fit(np.concatenate(parts, axis=1), y, links)
        pieces = np.split(weights, np.cumsum([part.shape[1] for part in parts])[:-1])
        table = sum((level.added(piece) for level, piece in zip(levels, pieces, strict=True)), np.zeros(1))
        sums = table[np.arange(len(table)), chosen].sum(1)
        fit = Additive(table, float((link.straight(y) - sums).mean()), link, left_out)
        found.append((float(np.square(y - left_out).mean()), fit))
    return min(found, key=lambda each: each[0])[1]


def _fit(x: Floats, y: Floats, links: list[Link]) -> tuple[Floats, Link, Floats]:
    """Return weights (d,) of ridge regression of `y` (n,) on `x` (n, d), the link, and `y` as the others predict it.

    Of links and penalties those with the least leave-one-out error, which has a closed form.
    """
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    best = (np.inf, np.zeros(len(y)), links[0], y)
    for link in links:
        z = link.straight(y)
        rest = z - z.mean()
        along = vectors.T @ rest
        for penalty in _PENALTIES.tolist():
            shrunk = values / (values + penalty)
            leverage = np.square(vectors) @ shrunk + 1 / len(y)
            left_out = link.back(z - (rest - vectors @ (shrunk * along)) / (1 - leverage))
            error = float(np.square(y - left_out).mean())
            if error < best[0]:
                best = (error, vectors @ (along / (values + penalty)), link, left_out)
    _, dual, link, left_out = best
    return np.asarray(centred.T @ dual), link, left_out
