"""Exhaustive search: every recipe of a small space, or of one reduced to the best options of every choice."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from q2.errors import ConfigError
from q2.passes import Step
from q2.search.building.feasible import admitted
from q2.search.space import Indices, Space
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.trials.trial import Trial

__all__ = ["Exhaustive"]

_COUNTED = 10**6
_BLOCK = 10**4


@dataclass(frozen=True)
class Exhaustive(Strategy):
    """Every recipe; with `top`, of the `top` options of each choice that have the least error in the bank.

    Recipes that break a constraint are left out; the rest must fit into the search's trials.
    """

    name: ClassVar[str] = "exhaustive"
    top: Annotated[int, Field(ge=0)] = 0
    """Options of a choice, those with the least error; 0: all."""

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for more recipes than trials; with `top` that follows from errors, which come later."""
        if not self.top:
            _Exhaustive(self, problem)

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `ConfigError` for more recipes than trials, and how to have fewer."""
        return _Exhaustive(self, problem)


class _Exhaustive(Searcher):
    def __init__(self, strategy: Exhaustive, problem: Problem) -> None:
        self.problem = problem
        self.options = [list(range(len(choice.options))) for choice in problem.space.choices]
        if strategy.top:
            self.options = _least_errors(problem, strategy.top)
        pairs = zip(problem.space.choices, self.options, strict=True)
        reduced = Space(tuple(type(c)(c.layers, tuple(c.options[i] for i in own), c.weights) for c, own in pairs))
        count = sum(map(len, self._blocks())) if problem.constraints and reduced.size <= _COUNTED else reduced.size
        within = f", {count:,} within the constraints" if problem.constraints and reduced.size <= _COUNTED else ""
        problem.show(Step(strategy.name, 0, f"{reduced}{within}"))
        if count == 0:
            bounds = " and ".join(f"'{bound}'" for bound in problem.constraints)
            raise ConfigError(f"search.constraints: none of the {reduced.size:,} recipes keeps to {bounds}")
        if count > problem.trials:
            fewer = "fewer options with search.strategies.exhaustive.top, or layers that are fixed in search.layers"
            size = f"{count:,}" if count <= _COUNTED else str(reduced)
            raise ConfigError(f"search.trials: {problem.trials:,} are too few to try {size}; more trials, or {fewer}")
        self.left = itertools.chain.from_iterable(self._blocks())

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes in the order of the space: none depends on another's trial."""
        return [Proposal(self.problem.space.decode(indices)) for indices in itertools.islice(self.left, most)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def _blocks(self) -> Iterator[Indices]:
        """Yield the recipes that keep to the constraints, many at a time (recipes, choices)."""
        every = itertools.product(*self.options)
        while block := list(itertools.islice(every, _BLOCK)):
            indices = np.array(block, np.intp).reshape(len(block), len(self.options))
            yield indices[admitted(self.problem.costs, self.problem.constraints, indices)]


def _least_errors(problem: Problem, top: int) -> list[list[int]]:
    """Return, per choice, the places of its `top` options with the least error, in the order of its options."""
    problem.costs.check([problem.costs.error])
    errors = problem.costs.tables[problem.costs.error]
    rows = [own[row[row >= 0]] for own, row in zip(errors, problem.space.columns, strict=True)]
    return [sorted(np.argsort(row, kind="stable")[:top].tolist()) for row in rows]
