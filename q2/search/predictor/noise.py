"""A fit of noise: a layer's errors count as many times as its sensitivity says, which is above 0 and learnt as a log.

A signal-to-noise ratio is the logarithm of a sum of noises, one a layer. `Additive` finds what options add to that sum by
linear regression; here it is an option's error times the layer's sensitivity, so that a trial says something of layers
that it leaves almost exact, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from q2.search.predictor.dataset import Floats, Ints

__all__ = ["NoiseFit", "fit_noise"]

_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
_LEVEL = 1e-4
"""How much the level that all sensitivities share is penalized, beside their differences."""
_STEPS, _ENOUGH = 30, 1e-5


@dataclass(frozen=True, eq=False)
class NoiseFit:
    """What noise options make (choices, options); a trial's target is ``mean - scale · log(sum of its noises)``.

    `left_out` (n,) are the trials of the fit, each predicted from the others; `penalty` is what was chosen by them.
    """

    noise: Floats
    mean: float
    scale: float
    left_out: Floats
    penalty: float

    def predict(self, chosen: Ints) -> Floats:
        """Return the target (...) of options (..., choices)."""
        total = self.noise[np.arange(len(self.noise)), chosen].sum(-1)
        return np.asarray(self.mean - self.scale * np.log(np.maximum(total, np.finfo(np.float64).tiny)))


def fit_noise(
    errors: Floats, groups: Sequence[Ints], chosen: Ints, y: Floats, scale: float, known: Floats | None = None
) -> NoiseFit:
    """Return the fit of trials `chosen` (n, choices) to targets `y` (n,), with errors (choices, options) from 0.

    The log of a choice's sensitivity is one number for all, one for each of its `groups` ((choices,) each), one of its
    own, and `known` (choices,) where given: what is expected of it. All but the first are penalized by their squares, as
    much as has the least leave-one-out error (by the fit's derivatives).
    """
    count = len(errors)
    hot = [np.eye(int(group.max()) + 1)[group] for group in groups]
    design = np.concatenate([np.ones((count, 1)), *hot, np.eye(count)], axis=1)
    weight = np.ones(design.shape[1])
    weight[0] = _LEVEL
    with np.errstate(divide="ignore"):
        logs = np.log(errors)
    logs = logs if known is None else logs + known[:, None]
    seen = logs[np.arange(count), chosen]
    problem = _Problem(seen, design, weight, y, float(y.mean()), scale)
    fits = []
    theta = problem.start()
    for penalty in sorted(_PENALTIES, reverse=True):
        theta = problem.solve(theta, penalty)
        left_out = problem.left_out(theta, penalty)
        fits.append((float(np.square(y - left_out).mean()), penalty, theta, left_out))
    _, penalty, theta, left_out = min(fits, key=lambda fit: fit[0])
    return NoiseFit(np.exp(logs + (design @ theta)[:, None]), float(y.mean()), scale, left_out, penalty)


@dataclass(frozen=True, eq=False)
class _Problem:
    """Nonlinear least squares of `y` (n,) on ``mean - scale · log Σ exp(logs + design @ theta)``, with a ridge."""

    logs: Floats
    design: Floats
    weight: Floats
    y: Floats
    mean: float
    scale: float

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
