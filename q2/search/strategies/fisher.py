"""Exact budgets on what gradients say: how far each option moves the outputs, to first order, without a trial.

The error of the outputs is quadratic in a small change dW of the weights: |J dW|². Gradients of the outputs in random
directions v, one backward pass each, tell it for all layers and options at once: (v·J dW)² is right on average (the
Gauss-Newton or Fisher matrix, sampled). Its diagonal, which Fisher pruning uses, leaves out how the errors of a layer's
weights go together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from q2.errors import ConfigError
from q2.passes import Step
from q2.search.strategies.base import Estimator, Problem, Searcher, Strategy
from q2.search.strategies.ilp import least_errors
from q2.search.strategies.listed import Listed
from q2.settings import Fidelity

__all__ = ["Fisher"]


@dataclass(frozen=True)
class Fisher(Strategy):
    """Recipes with the least sum of noise in the outputs, by gradients, at evenly spaced budgets of `metric`.

    `passes` backward passes are made, in turn over the calls of the denoiser that the fidelity ``forward`` compares.
    `estimate` is ``full`` or ``diagonal``, the sum of g² dW². `memory` bounds the gradients that are kept, in GiB, but
    for those of one pass.
    """

    name: ClassVar[str] = "fisher"
    passes: int = 64
    """How many backward passes."""
    estimate: Estimator = "full"
    """Which estimate of the Fisher information: `full` or `diagonal`."""
    metric: str = "avg_bits"
    """The sum over layers that the budgets bound."""
    memory: float = 2.0
    """GiB of gradients that are kept."""

    def expressions(self) -> dict[str, str]:
        """Return what must be measured: that is why full precision's calls are there."""
        return {"estimate": "SQNR"}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity whose calls are used."""
        return ["forward"]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for numbers out of range, and where a search runs nothing that has gradients."""
        if problem.fidelity == "weights":
            raise ConfigError("needs the denoiser to run, and the fidelity 'weights' runs nothing; take ilp-error")
        if self.passes < 1:
            raise ConfigError(f"passes: expected 1 or more, not {self.passes}")
        if self.memory < 0:
            raise ConfigError(f"memory: expected 0 or more, not {self.memory:g}")

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search: work out the gradients, solve for all budgets. Raises `Q2Error`."""
        self.check(problem)
        problem.costs.check([self.metric])
        if problem.gradient_errors is None:
            raise ConfigError("needs a loaded denoiser: search with q2 search")
        errors = problem.gradient_errors(self.passes, self.estimate, self.memory)
        spread = np.nan_to_num(errors.max(axis=1) - errors.min(axis=1), nan=np.inf, posinf=np.inf)
        line = f"{self.passes} backward passes; most sensitive: {problem.space.choices[int(spread.argmax())].name}"
        problem.show(Step(self.name, 0, line))
        return Listed(problem.space, least_errors(problem, errors, self.metric, self.name))
