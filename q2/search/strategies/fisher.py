"""Integer programming on gradients: the noise of each option in the outputs, to first order, without any trial.

A small change dW of the weights changes the outputs by J dW, a squared error of |J dW|². One backward pass along a
random direction v gives (v·J dW)² for all layers and options at once; its mean over v is |J dW|² (the Gauss-Newton or
Fisher matrix, sampled). The diagonal estimate, as in Fisher pruning (Theis et al., 2018), ignores correlations between
the errors of a layer's weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from q2.errors import ConfigError
from q2.passes import Step
from q2.search.metrics.base import Array
from q2.search.strategies.base import Estimator, Problem, Searcher, Strategy
from q2.search.strategies.ilp import least_errors
from q2.search.strategies.listed import Listed
from q2.settings import Fidelity

__all__ = ["Fisher"]


@dataclass(frozen=True)
class Fisher(Strategy):
    """Recipes with the least summed output noise, estimated from gradients, at evenly spaced budgets of `metric`.

    `passes` backward passes are made, in turn over the calls of the denoiser that the fidelity ``forward`` compares.
    `estimate` is ``full``, or ``diagonal`` for the sum of g² dW². `memory` limits the stored gradients, in GiB; the
    gradients of one pass are always stored.
    """

    name: ClassVar[str] = "fisher"
    passes: int = 64
    """Number of backward passes."""
    estimate: Estimator = "full"
    """Estimate of the Fisher information: `full` or `diagonal`."""
    metric: str = "avg_bits"
    """Cost that the budgets limit, a sum over layers."""
    memory: float = 2.0
    """Limit on the gradients kept in memory, in GiB."""

    def expressions(self) -> dict[str, str]:
        """Return ``SQNR``: measuring it is what records the calls at full precision that the gradients need."""
        return {"estimate": "SQNR"}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return ``forward``, the fidelity whose calls of the denoiser are used."""
        return ["forward"]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for options out of range, and for a search that does not run the denoiser."""
        if problem.fidelity == "weights":
            raise ConfigError("needs the denoiser to run, and the fidelity 'weights' does not run it; use ilp-error")
        if self.passes < 1:
            raise ConfigError(f"passes: expected 1 or more, not {self.passes}")
        if self.memory < 0:
            raise ConfigError(f"memory: expected 0 or more, not {self.memory:g}")

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher: compute the gradients and solve for every budget.

        Raises `ConfigError` as `check` does, for a `metric` that is no sum over layers, and if the denoiser is not
        loaded; `Q2Error` for outputs without gradients.
        """
        self.check(problem)
        problem.costs.check([self.metric])
        return Listed(problem.space, least_errors(problem, self.errors(problem), self.metric, self.name))

    def errors(self, problem: Problem) -> Array:
        """Return the noise that every option adds to the outputs, relative to the signal (choices, options).

        Raises `ConfigError` if the denoiser is not loaded; `Q2Error` for outputs without gradients.
        """
        if problem.gradient_errors is None:
            raise ConfigError("needs a loaded denoiser: use q2 search")
        errors = problem.gradient_errors(self.passes, self.estimate, self.memory)
        spread = np.nan_to_num(errors.max(axis=1) - errors.min(axis=1), nan=np.inf, posinf=np.inf)
        line = f"{self.passes} backward passes; most sensitive: {problem.space.choices[int(spread.argmax())].name}"
        problem.show(Step(self.name, 0, line))
        return errors
