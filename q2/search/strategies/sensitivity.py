"""Integer programming on measured sensitivities: each choice is quantized alone once, and the added noise is measured.

The effect that an error in a layer's outputs has on the image differs between layers by orders of magnitude. One cheap
trial per choice measures this effect, as in MixDQ (ECCV'24); the bank has the error of every option.
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

    First every choice is quantized alone, with all others exact, at a cheaper `fidelity`: ``forward`` compares the
    denoiser's outputs, ``few-step`` the latents. These trials do not count towards the budget. `error` is as in
    ilp-error.
    """

    name: ClassVar[str] = "sensitivity"
    fidelity: Literal["forward", "few-step"] = "few-step"
    """Fidelity at which every choice is measured alone: `few-step` or `forward`."""
    metric: str = "avg_bits"
    """Cost that the budgets limit, a sum over layers."""
    error: str = ""
    """Error that is weighted; empty: `output_error` if the bank has it, else `quantized_error`."""

    @property
    def signal(self) -> str:
        """The metric that compares a trial with full precision, in dB."""
        return signal_of(self.fidelity)

    def expressions(self) -> dict[str, str]:
        """Return the metric that single choices are measured by, and `error`, if set."""
        return {"fidelity": self.signal} | ({"error": self.error} if self.error else {})

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity of the trials of single choices."""
        return [self.fidelity]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for a choice that cannot stay exact, and for a fidelity that is not cheaper."""
        check_alone(problem.space)
        check_cheaper(self.fidelity, problem)

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher. Raises `ConfigError` if no recipe satisfies the constraints."""
        error = self.error or problem.costs.error
        problem.costs.check([error, self.metric])
        errors = problem.costs.finite().tables[error]
        alone = Alone(problem, self.fidelity, one_option_each(problem.space, errors))

        def recipes(trials: Sequence[Trial]) -> Iterator[Indices]:
            weighted = alone.weighted(trials, errors, self.name)
            return least_errors(problem, weighted, self.metric, self.name)

        return AloneFirst(alone, recipes)
