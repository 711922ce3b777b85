"""A small search without a denoiser: its space, its costs, a searcher and an engine that do as a test says."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from q2.graph import Graph
from q2.search.engines.base import Engine
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.metrics.finite import NotFiniteError
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.strategies.base import Problem, Proposal, Searcher
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.settings import EngineSettings

SPACE = Space.of({"a": 10, "b": 10, "c": 20}, ["uaq-4", "uaq-3"])
COSTS = Costs(SPACE, {"avg_bits": np.array([[1.0, 0.75], [1.0, 0.75], [2.0, 1.5]])}, {"avg_bits": 0.0})
RUN = Fingerprint("toy", "0a1b", "0.1.0")


def problem(trials: int, seed: int = 0) -> Problem:
    graph = cast(Graph, None)  # no strategy of these tests looks at it
    return Problem(SPACE, COSTS, Target.parse("-avg_bits", ["avg_bits"]), graph, trials, seed, "weights")


def recipe(number: int) -> dict[str, str]:
    """The recipe whose option indices are the digits of a number from 0 to 7."""
    return SPACE.decode([number >> place & 1 for place in range(3)])


def store(folder: Path) -> TrialStore:
    return TrialStore.open(folder / "trials", RUN)


class Listed(Searcher):
    """Asks for recipes from a list, `step` at a time, and keeps what it is told."""

    def __init__(self, numbers: Sequence[int], step: int = 100) -> None:
        self.numbers, self.step = list(numbers), step
        self.asked = 0
        self.told: list[Trial] = []

    def ask(self, most: int) -> Sequence[Proposal]:
        chosen = self.numbers[self.asked : self.asked + min(most, self.step)]
        self.asked += len(chosen)
        return [Proposal(recipe(number)) for number in chosen]

    def tell(self, trials: Sequence[Trial]) -> None:
        self.told += trials


class Here(Engine):
    """Measures costs at once in this process, last job first; `also` may add metrics, fail or raise."""

    name = "here"

    def __init__(self, also: Callable[[Job], dict[str, float]] = lambda job: {}) -> None:
        super().__init__(EngineSettings(), lambda: lambda places: self._measure, {})
        self.also = also
        self.done: list[int | None] = []

    @property
    def workers(self) -> int:
        return 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        yield from map(self._measure, reversed(jobs))

    def _measure(self, job: Job) -> Evaluated:
        self.done.append(job.number)
        try:
            metrics = COSTS.metrics(job.recipe) | self.also(job)
        except (ZeroDivisionError, NotFiniteError) as error:
            return Evaluated(job.trial("failed", str(error)), not_finite=isinstance(error, NotFiniteError))
        asked = {"fidelity": job.fidelity, "seed": job.seed, "number": job.number, "strategy": job.strategy}
        return Evaluated(Trial(job.recipe, metrics, **asked), {"score": 0.25})  # type: ignore[arg-type]
