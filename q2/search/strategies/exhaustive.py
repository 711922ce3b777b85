"""Exhaustive search: every recipe of a small space, or of a space reduced to the best options of every choice.

With the file of a reduced space (`q2.search.reduced`) this is AutoBuild's top-k evaluation (CVPR'24).
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
    """Every recipe of the space, or with `top` every recipe made of each choice's `top` options of least error.

    Errors are the bank's. A unit keeps its `top` variants of least summed error instead.

    Recipes that violate a constraint are left out. There must be at least as many trials as remaining recipes.
    """

    name: ClassVar[str] = "exhaustive"
    keeps_units: ClassVar[bool] = True
    top: Annotated[int, Field(ge=0)] = 0
    """Options per choice, those of least error; 0: all."""

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for more recipes than trials; with `top`, `searcher` does, since it needs errors."""
        if not self.top:
            _Exhaustive(self, problem)

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher. Raises `ConfigError` for more recipes than trials, and for no recipe at all."""
        return _Exhaustive(self, problem)


class _Exhaustive(Searcher):
    def __init__(self, strategy: Exhaustive, problem: Problem) -> None:
        self.problem = problem
        self.groups = _least_errors(problem, strategy.top) if strategy.top else problem.space.groups
        reduced = Space(problem.space.choices, self.groups)
        count = sum(map(len, self._blocks())) if problem.constraints and reduced.size <= _COUNTED else reduced.size
        within = f", {count:,} satisfy the constraints" if problem.constraints and reduced.size <= _COUNTED else ""
        problem.show(Step(strategy.name, 0, f"{reduced}{within}"))
        if count == 0:
            bounds = " and ".join(f"'{bound}'" for bound in problem.constraints)
            raise ConfigError(f"search.constraints: none of the {reduced.size:,} recipes satisfies {bounds}")
        if count > problem.trials:
            fewer = "fewer options (search.strategies.exhaustive.top) or fixed layers (search.layers)"
            size = f"{count:,} recipes" if count <= _COUNTED else str(reduced)
            raise ConfigError(f"search.trials: {problem.trials:,} are too few for {size}; use more trials, {fewer}")
        self.left = itertools.chain.from_iterable(self._blocks())

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes in the order of the space; no recipe depends on a trial."""
        return [Proposal(self.problem.space.decode(indices)) for indices in itertools.islice(self.left, most)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing: no recipe depends on a trial."""

    def _blocks(self) -> Iterator[Indices]:
        """Yield the recipes that satisfy the constraints, in blocks (recipes, choices)."""
        every = itertools.product(*(range(len(group.variants)) for group in self.groups))
        tables = [(list(group.choices), np.array(group.variants, np.intp)) for group in self.groups]
        while block := list(itertools.islice(every, _BLOCK)):
            picked = np.array(block, np.intp).reshape(len(block), len(self.groups))
            indices = np.zeros((len(block), len(self.problem.space)), np.intp)
            for (choices, variants), column in zip(tables, picked.T, strict=True):
                indices[:, choices] = variants[column]
            yield indices[admitted(self.problem.costs, self.problem.constraints, indices)]


def _least_errors(problem: Problem, top: int) -> tuple[SpaceUnit, ...]:
    """Return the space's groups, each with its `top` variants of least error in their original order."""
    problem.costs.check([problem.costs.error])
    items = problem.space.items
    errors = np.split(items.added(problem.costs.tables[problem.costs.error]), items.start[1:])
    kept = [sorted(np.argsort(row, kind="stable")[:top].tolist()) for row in errors]
    pairs = zip(problem.space.groups, kept, strict=True)
    return tuple(replace(group, variants=tuple(group.variants[i] for i in own)) for group, own in pairs)
