"""Exhaustive search: every recipe of a small space, or of one reduced to the best options of every choice.

With a file of a reduced space (`q2.search.reduced`) it is AutoBuild's evaluation of the top k (CVPR'24).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from q2.errors import ConfigError
from q2.passes import Step
from q2.search.building.feasible import admitted
from q2.search.space import Indices, Space, SpaceUnit
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.trials.trial import Trial

__all__ = ["Exhaustive"]

_COUNTED = 10**6
_BLOCK = 10**4


@dataclass(frozen=True)
class Exhaustive(Strategy):
    """Every recipe; with `top`, of the `top` options of each choice that have the least error in the bank.

    Of a unit that has variants these count, with their summed errors.

    Recipes that break a constraint are left out; the rest must fit into the search's trials.
    """

    name: ClassVar[str] = "exhaustive"
    keeps_units: ClassVar[bool] = True
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
        self.groups = _least_errors(problem, strategy.top) if strategy.top else problem.space.groups
        reduced = Space(problem.space.choices, self.groups)
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
        every = itertools.product(*(range(len(group.variants)) for group in self.groups))
        tables = [(list(group.choices), np.array(group.variants, np.intp)) for group in self.groups]
        while block := list(itertools.islice(every, _BLOCK)):
            picked = np.array(block, np.intp).reshape(len(block), len(self.groups))
            indices = np.zeros((len(block), len(self.problem.space)), np.intp)
            for (choices, variants), column in zip(tables, picked.T, strict=True):
                indices[:, choices] = variants[column]
            yield indices[admitted(self.problem.costs, self.problem.constraints, indices)]


def _least_errors(problem: Problem, top: int) -> tuple[SpaceUnit, ...]:
    """Return what is chosen independently with its `top` variants of least error, in the order that they had."""
    problem.costs.check([problem.costs.error])
    items = problem.space.items
    errors = np.split(items.added(problem.costs.tables[problem.costs.error]), items.start[1:])
    kept = [sorted(np.argsort(row, kind="stable")[:top].tolist()) for row in errors]
    pairs = zip(problem.space.groups, kept, strict=True)
    return tuple(replace(group, variants=tuple(group.variants[i] for i in own)) for group, own in pairs)
