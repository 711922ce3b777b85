"""Exact budgets on measured noise: every option of every choice is measured alone, as in MixDQ (ECCV'24).

The noise that single choices add is summed, so no error of a bank takes part. It costs a cheap trial for every option
of every choice, where `sensitivity` has one for every choice.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from q2.errors import ConfigError
from q2.passes import Step
from q2.quant.options import NONE
from q2.quant.sensitivity import AloneFidelity, SensitivityTable, signal_of
from q2.search.metrics.base import Array
from q2.search.space import Indices, Space
from q2.search.strategies.alone import Alone, AloneFirst, check_alone, check_cheaper, every_option
from q2.search.strategies.base import Problem, Searcher, Strategy
from q2.search.strategies.ilp import least_errors
from q2.search.strategies.listed import Listed
from q2.settings import Fidelity

__all__ = ["MixDQ"]


@dataclass(frozen=True)
class MixDQ(Strategy):
    """Recipes with the least sum of noise, each option's measured alone, at evenly spaced budgets of `metric`.

    `fidelity` is that of the trials of single choices, a cheaper one than the search's, which are no part of the
    budget: ``forward`` tells by the denoiser's outputs, ``few-step`` by the latents. With `file`, what the pass
    ``sensitivity`` wrote, nothing is measured.
    """

    name: ClassVar[str] = "mixdq"
    fidelity: AloneFidelity = "forward"
    """How every option is measured alone: `forward` or `few-step`."""
    metric: str = "avg_bits"
    """The sum over layers that the budgets bound."""
    file: str = ""
    """Measurements of the pass `sensitivity`, in place of trials; empty: trials measure."""

    def expressions(self) -> dict[str, str]:
        """Return what must be measured."""
        return {} if self.file else {"fidelity": signal_of(self.fidelity)}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity of the trials of single choices."""
        return [] if self.file else [self.fidelity]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` where a choice cannot stay exact, and for a file that lacks an option."""
        if self.file:
            _read(self.file, problem)
            return
        check_alone(problem.space)
        check_cheaper(self.fidelity, problem)

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `ConfigError` for constraints that no recipe keeps to."""
        problem.costs.check([self.metric])
        if self.file:
            return Listed(problem.space, self._recipes(problem, _read(self.file, problem)))
        probes = every_option(problem.space)
        alone = Alone(problem, self.fidelity, probes)
        line = f"{len(probes) + 1} trials of single choices at {self.fidelity} come first; none is counted"
        problem.show(Step(self.name, 0, line))
        return AloneFirst(alone, lambda trials: self._recipes(problem, alone.measured(trials)))

    def _recipes(self, problem: Problem, table: SensitivityTable) -> Iterator[Indices]:
        noise = _noise(table, problem.space)
        known = int(np.isfinite(noise).sum())
        most, spread = table.ranked()[0]
        problem.show(Step(self.name, 0, f"{known} options measured alone; most sensitive: {most} ({spread:.1e})"))
        return least_errors(problem, noise, self.metric, self.name)


def _noise(table: SensitivityTable, space: Space) -> Array:
    """Return what every option adds to the noise (choices, options of the space); NaN where a trial failed."""
    return np.array([
        [table.added(choice.name, option) if option in choice.options else math.nan for option in space.options]
        for choice in space.choices
    ])  # fmt: skip


def _read(file: str, problem: Problem) -> SensitivityTable:
    """Return the table in a file. Raises `ConfigError` for one of other weights, and for one that lacks an option."""
    table = SensitivityTable.load(Path(file))
    if problem.subject.fingerprint and table.fingerprint != problem.subject.fingerprint:
        raise ConfigError(
            f"file: {file}: measured on weights {table.fingerprint}, not on {problem.subject.fingerprint}"
        )
    if table.base:
        raise ConfigError(f"file: {file}: measured from a recipe, expected from full precision")
    for choice in problem.space.choices:
        for option in choice.options:
            if option != NONE and option not in table.sqnr_db.get(choice.name, {}):
                raise ConfigError(f"file: {file}: lacks {option} of {choice.name!r}; measure it: the pass sensitivity")
    return table
