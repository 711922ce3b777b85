"""Integer programming on measured noise: every option of every choice is measured alone, as in MixDQ (ECCV'24).

Recipes minimize the sum of the measured noise, so the bank's errors are not used. This costs one cheap trial for every
option of every choice; `sensitivity` needs one for every choice.
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
    """Recipes with the least summed noise, each option measured alone, at evenly spaced budgets of `metric`.

    The trials of single options run at `fidelity`, which must be cheaper than the search's; they do not count towards
    the budget. ``forward`` compares the denoiser's outputs, ``few-step`` the latents. With `file`, written by the pass
    ``sensitivity``, no such trials are run.
    """

    name: ClassVar[str] = "mixdq"
    fidelity: AloneFidelity = "forward"
    """Fidelity at which every option is measured alone: `forward` or `few-step`."""
    metric: str = "avg_bits"
    """Cost that the budgets limit, a sum over layers."""
    file: str = ""
    """File of measurements by the pass `sensitivity`, instead of trials; empty: run the trials."""

    def expressions(self) -> dict[str, str]:
        """Return the metric that single options are measured by, or nothing with `file`."""
        return {} if self.file else {"fidelity": signal_of(self.fidelity)}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity of the trials of single options, or nothing with `file`."""
        return [] if self.file else [self.fidelity]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for a choice that cannot stay exact, or a file that lacks an option."""
        if self.file:
            _read(self.file, problem)
            return
        check_alone(problem.space)
        check_cheaper(self.fidelity, problem)

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher. Raises `ConfigError` if no recipe satisfies the constraints."""
        problem.costs.check([self.metric])
        if self.file:
            return Listed(problem.space, self._recipes(problem, _read(self.file, problem)))
        probes = every_option(problem.space)
        alone = Alone(problem, self.fidelity, probes)
        line = f"first {len(probes) + 1} trials of single options at {self.fidelity}, which do not use the budget"
        problem.show(Step(self.name, 0, line))
        return AloneFirst(alone, lambda trials: self._recipes(problem, alone.measured(trials)))

    def _recipes(self, problem: Problem, table: SensitivityTable) -> Iterator[Indices]:
        noise = _noise(table, problem.space)
        known = int(np.isfinite(noise).sum())
        most, spread = table.ranked()[0]
        problem.show(Step(self.name, 0, f"{known} options measured alone; most sensitive: {most} ({spread:.1e})"))
        return least_errors(problem, noise, self.metric, self.name)


def _noise(table: SensitivityTable, space: Space) -> Array:
    """Return the noise that every option adds (choices, options of the space); NaN where a trial failed."""
    return np.array([
        [table.added(choice.name, option) if option in choice.options else math.nan for option in space.options]
        for choice in space.choices
    ])  # fmt: skip


def _read(file: str, problem: Problem) -> SensitivityTable:
    """Return the table in a file. Raises `ConfigError` if it is of other weights or lacks an option."""
    table = SensitivityTable.load(Path(file))
    if problem.subject.fingerprint and table.fingerprint != problem.subject.fingerprint:
        raise ConfigError(
            f"file: {file}: measured on weights {table.fingerprint}, not on {problem.subject.fingerprint}"
        )
    if table.base:
        raise ConfigError(f"file: {file}: measured starting from a recipe, expected from full precision")
    for choice in problem.space.choices:
        for option in choice.options:
            if option != NONE and option not in table.sqnr_db.get(choice.name, {}):
                raise ConfigError(f"file: {file}: lacks {option} of {choice.name!r}; run the pass sensitivity")
    return table
