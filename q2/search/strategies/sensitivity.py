"""Integer programming on measured sensitivities: each choice is quantized alone once, and what that does is measured.

What an error in a layer's outputs does to the image differs from layer to layer by orders of magnitude. One cheap trial
a choice says how much, as in MixDQ (ECCV'24); the bank says how large the error of every option is.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from q2.errors import ConfigError
from q2.passes import Step
from q2.quant.options import NONE
from q2.search.metrics.base import LADDER
from q2.search.space import Indices
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.strategies.ilp import least_errors
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

__all__ = ["Sensitivity"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sensitivity(Strategy):
    """Recipes with the least error, weighted by measured sensitivity, at evenly spaced budgets of `metric`.

    First every choice is quantized alone, with all others exact, at a cheaper `fidelity`: ``forward`` tells by the
    denoiser's outputs, ``few-step`` by the latents. These trials are no part of the budget. `error` as in ilp-error.
    """

    name: ClassVar[str] = "sensitivity"
    fidelity: Literal["forward", "few-step"] = "few-step"
    metric: str = "avg_bits"
    error: str = ""

    @property
    def signal(self) -> str:
        """The metric that tells how far a trial is from full precision, in dB."""
        return "SQNR" if self.fidelity == "forward" else "latent-SQNR"

    def expressions(self) -> dict[str, str]:
        """Return what must be measured."""
        return {"fidelity": self.signal} | ({"error": self.error} if self.error else {})

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity of the trials of single choices."""
        return [self.fidelity]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` where a choice cannot stay exact, and where single choices would take the budget."""
        closed = [
            choice.name for choice in problem.space.choices if len(choice.options) > 1 and NONE not in choice.options
        ]
        if closed:
            raise ConfigError(
                f"measures layers one by one, the others exact: {closed[0]!r} needs the option {NONE!r} too"
            )
        if LADDER.index(self.fidelity) >= LADDER.index(problem.fidelity):
            raise ConfigError(f"fidelity: expected a cheaper one than the search's, {problem.fidelity!r}")

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `ConfigError` for constraints that no recipe keeps to."""
        error = self.error or problem.costs.error
        problem.costs.check([error, self.metric])
        return _Probing(self, problem, problem.costs.finite().tables[error])


class _Probing(Searcher):
    """Asks for single choices, then for the recipes that follow."""

    def __init__(self, options: Sensitivity, problem: Problem, errors: Array) -> None:
        self.options, self.problem, self.errors = options, problem, errors
        space = problem.space
        self.exact = np.array([_exact(choice.options, self._own(i)) for i, choice in enumerate(space.choices)], np.intp)
        self.probes = [(i, probe) for i in range(len(space)) if (probe := self._probe(i)) is not None]
        self.ratios: list[float] = []
        self.found: Iterator[Indices] | None = None

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return all trials of single choices at once, and later the recipes at the budgets."""
        decode = self.problem.space.decode
        if not self.ratios:
            alone = [self.exact, *(self._alone(i, probe) for i, probe in self.probes)]
            return [Proposal(decode(recipe), self.options.fidelity) for recipe in alone]
        if self.found is None:
            self.found = least_errors(self.problem, self._table(), self.options.metric, self.options.name)
        return [Proposal(decode(recipe)) for recipe, _ in zip(self.found, range(most), strict=False)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Take in what single choices do; of a choice whose trial failed nothing is known."""
        if not self.ratios:
            values = [trial.metrics.get(self.options.signal, math.nan) for trial in trials]
            self.ratios = [10 ** (-value / 10) for value in values]

    def _own(self, choice: int) -> Array:
        row = self.problem.space.columns[choice]
        return np.asarray(self.errors[choice, row[row >= 0]])

    def _probe(self, choice: int) -> int | None:
        """Return the option that a choice is measured with: of those with an error the one in the middle."""
        own = self._own(choice)
        wrong = [int(i) for i in np.argsort(own, kind="stable") if own[i] > 0 and i != self.exact[choice]]
        return wrong[len(wrong) // 2] if wrong else None

    def _alone(self, choice: int, option: int) -> Indices:
        recipe = self.exact.copy()
        recipe[choice] = option
        return recipe

    def _table(self) -> Array:
        """Return the errors (choices, options), each choice's times what a unit of error does to the image."""
        base, *ratios = self.ratios
        base = base if math.isfinite(base) else 0.0
        table, gains = self.errors.copy(), {}
        for (choice, probe), ratio in zip(self.probes, ratios, strict=True):
            added = max(ratio - base, 1e-3 * ratio)
            if math.isfinite(added):
                gains[choice] = added / self._own(choice)[probe]
        if not gains:
            raise ConfigError("all trials of single layers failed")
        middle = float(np.median(list(gains.values())))
        for choice in range(len(table)):
            table[choice] *= gains.get(choice, middle)
        least, most = min(gains.values()), max(gains.values())
        line = f"{len(gains)} choices measured alone; an error counts from {least:.1e} to {most:.1e}"
        self.problem.show(Step(self.options.name, 0, line))
        return np.asarray(table)


def _exact(options: Sequence[str], errors: Array) -> int:
    return options.index(NONE) if NONE in options else int(np.argmin(errors))
