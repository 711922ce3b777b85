"""Integer programming on measured sensitivities: each choice is quantized alone once, and what that does is measured.

What an error in a layer's outputs does to the image differs from layer to layer by orders of magnitude. One cheap trial
a choice says how much, as in MixDQ (ECCV'24); the bank says how large the error of every option is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from q2.quant.sensitivity import signal_of
from q2.search.space import Indices
from q2.search.strategies.alone import Alone, AloneFirst, check_alone, check_cheaper, one_option_each
from q2.search.strategies.base import Problem, Searcher, Strategy
from q2.search.strategies.ilp import least_errors
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

__all__ = ["Sensitivity"]


@dataclass(frozen=True)
class Sensitivity(Strategy):
    """Recipes with the least error, weighted by measured sensitivity, at evenly spaced budgets of `metric`.

    First every choice is quantized alone, with all others exact, at a cheaper `fidelity`: ``forward`` tells by the
    denoiser's outputs, ``few-step`` by the latents. These trials are no part of the budget. `error` as in ilp-error.
    """

    name: ClassVar[str] = "sensitivity"
    fidelity: Literal["forward", "few-step"] = "few-step"
    """How layers are measured alone: `few-step` or `forward`."""
    metric: str = "avg_bits"
    """The sum over layers that the budgets bound."""
    error: str = ""
    """The errors that are weighted; empty: `output_error` where the bank knows it, else `quantized_error`."""

    @property
    def signal(self) -> str:
        """The metric that tells how far a trial is from full precision, in dB."""
        return signal_of(self.fidelity)

    def expressions(self) -> dict[str, str]:
        """Return what must be measured."""
        return {"fidelity": self.signal} | ({"error": self.error} if self.error else {})

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity of the trials of single choices."""
        return [self.fidelity]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` where a choice cannot stay exact, and where single choices would take the budget."""
        check_alone(problem.space)
        check_cheaper(self.fidelity, problem)

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `ConfigError` for constraints that no recipe keeps to."""
        error = self.error or problem.costs.error
        problem.costs.check([error, self.metric])
        errors = problem.costs.finite().tables[error]
        alone = Alone(problem, self.fidelity, one_option_each(problem.space, errors))

        def recipes(trials: Sequence[Trial]) -> Iterator[Indices]:
            weighted = alone.weighted(trials, errors, self.name)
            return least_errors(problem, weighted, self.metric, self.name)

        return AloneFirst(alone, recipes)
