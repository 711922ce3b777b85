"""A fit of noise: a layer's error counts as much as its sensitivity says, which is above 0 and learnt as a logarithm.

A signal-to-noise ratio is the logarithm of a sum of noises, one a layer. Linear regression (`fit_linear`) lets every
option add what it likes to that sum; here an option's noise is its error times its layer's sensitivity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.fitted import Additive
from q2.search.predictor.link import Link

__all__ = ["DECIBELS", "fit_noise"]

DECIBELS = float(10 / np.log(10))
"""The scale of a signal-to-noise ratio in dB."""

_PENALTIES = (1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.1, 0.01, 0.001)
_LEVEL = 1e-4
"""How much the level that all sensitivities share is penalized, beside their differences."""
_STEPS, _ENOUGH = 30, 1e-5
_MOST = 2000
_FAINTEST = 1e-12


def fit_noise(
    errors: Floats,
    groups: Sequence[Ints],
    chosen: Ints,
    y: Floats,
    *,
    scale: float = DECIBELS,
    known: Floats | None = None,
) -> Additive:
    """Return the fit of trials `chosen` (n, choices) to targets `y` (n,): the mean minus `scale` · log Σ noise.

    An option's noise is its error (choices, options), 0 or more, times its choice's sensitivity. The log of that is
    one number for all, one for each of the choice's `groups` ((choices,) each), one of its own, and `known` (choices,)
    where given: what is expected. All but the first are penalized by their squares, as much as has the least
    leave-one-out error (to first order); of many trials `_MOST` decide on that.
    """
    count = len(errors)
    hot = [np.eye(int(group.max()) + 1)[group] for group in groups]
    design = np.concatenate([np.ones((count, 1)), *hot, np.eye(count)], axis=1)
    weight = np.ones(design.shape[1])
    weight[0] = _LEVEL
    with np.errstate(divide="ignore"):
        logs = np.log(errors)
    logs = logs if known is None else logs + known[:, None]
    problem = _Problem(logs[np.arange(count), chosen], design, weight, y, float(y.mean()), scale)
    few = problem.some(np.linspace(0, len(y) - 1, min(len(y), _MOST)).round().astype(np.int64))
    theta, fits = few.start(), []
    for penalty in _PENALTIES:
        theta = few.solve(theta, penalty)
        fits.append((float(np.square(few.y - few.left_out(theta, penalty)).mean()), penalty, theta))
    _, penalty, theta = min(fits, key=lambda fit: fit[0])
    theta = problem.solve(theta, penalty)
    left_out = problem.left_out(theta, penalty)
    link = Link(problem.mean, 1.0, 1 / scale, _FAINTEST)
    return Additive(-scale * np.exp(logs + (design @ theta)[:, None]), scale, link, left_out)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Nonlinear least squares of `y` (n,) on ``mean - scale · log Σ exp(logs + design @ theta)``, with a ridge."""

    logs: Floats
    design: Floats
    weight: Floats
    y: Floats
    mean: float
    scale: float

    def some(self, rows: Ints) -> _Problem:
        """Return the problem of some trials."""
        return replace(self, logs=self.logs[rows], y=self.y[rows])

    def start(self) -> Floats:
        """Return theta (d,) with a level that is right on average, and no differences."""
        theta = np.zeros(self.design.shape[1])
        theta[0] = float((self._model(theta)[0] - self.y).mean()) / self.scale
        return theta

    def _model(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return predictions (n,) and each choice's share of the noise (n, choices)."""
        each = self.logs + self.design @ theta
        most = np.maximum(each.max(1, keepdims=True), -1e3)
        part = np.exp(each - most)
        total = part.sum(1, keepdims=True) + np.finfo(np.float64).tiny
        return self.mean - self.scale * (most + np.log(total))[:, 0], part / total

    def _curvature(self, theta: Floats, penalty: float) -> tuple[Floats, Floats, Floats]:
        predicted, shares = self._model(theta)
        slopes = -self.scale * (shares @ self.design)
        return predicted, slopes, slopes.T @ slopes + np.diag(penalty * self.weight)

    def _cost(self, theta: Floats, penalty: float) -> float:
        rest = self.y - self._model(theta)[0]
        return float(rest @ rest + penalty * (self.weight * theta) @ theta)

    def solve(self, theta: Floats, penalty: float) -> Floats:
        """Return the theta of least cost, by Levenberg-Marquardt."""
        damping, cost = 1e-3, self._cost(theta, penalty)
        for _ in range(_STEPS):
            predicted, slopes, curvature = self._curvature(theta, penalty)
            gradient = slopes.T @ (self.y - predicted) - penalty * self.weight * theta
            before = cost
            for _ in range(8):
                tried = theta + np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
                if (reached := self._cost(tried, penalty)) <= cost:
                    theta, cost, damping = tried, reached, max(damping / 5, 1e-9)
                    break
                damping *= 5
            if before - cost <= _ENOUGH * before:
                break
        return theta

    def left_out(self, theta: Floats, penalty: float) -> Floats:
        """Return every target (n,) as a fit without it would predict it, to first order."""
        predicted, slopes, curvature = self._curvature(theta, penalty)
        leverage = np.einsum("nd,dn->n", slopes, np.linalg.solve(curvature, slopes.T))
        return np.asarray(self.y - (self.y - predicted) / (1 - np.minimum(leverage, 0.99)))
