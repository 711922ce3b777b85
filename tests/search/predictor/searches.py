"""Searches of a tiny denoiser without a model: hand-made costs, and a target that is known."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from q2.search.engines.base import Engine
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.evaluator import Evaluated, Job
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.predictor.dataset import Floats
from q2.search.space import Space
from q2.search.strategies.base import Problem
from q2.search.trials.trial import Trial
from q2.settings import EngineSettings
from tests.search.predictor.spaces import graph

OPTIONS = ("kmeans-c-4", "uaq-4", "kmeans-c-3", "uaq-3")


def costs(layers: Mapping[str, Sequence[str]] | None = None) -> Costs:
    """Return what the options of a tiny DiT cost: sizes that are exact, errors that are drawn."""
    space = Space.of_graph(graph("dit"), OPTIONS, ties=False).limited(layers or {})
    weights = np.array([choice.weights for choice in space.choices], float)
    width = np.array([float(option[-1]) for option in space.options])
    rng = np.random.default_rng(7)
    error = 2.0**-width * rng.lognormal(0, 0.5, (len(space), len(width)))
    return Costs(
        space,
        {"avg_bits": weights[:, None] * width / weights.sum(), "quantized_error": error},
        {"avg_bits": 0.0, "quantized_error": 0.0},
    )


def sensitivities(found: Costs) -> Floats:
    return np.random.default_rng(1).lognormal(0, 1, (len(found.space), 1))


def problem(
    folder: Path,
    trials: int,
    *constraints: str,
    seed: int = 0,
    target: str = "quality - 2*avg_bits",
    layers: Mapping[str, Sequence[str]] | None = None,
) -> Problem:
    found = costs(layers)
    bounds = tuple(Constraint.parse(text, list(found.tables)) for text in constraints)
    wanted = Target.parse(target, ["quality", *found.tables])
    return Problem(found.space, found, wanted, graph("dit"), trials, seed, "forward", bounds, folder=folder)


class Measured(Engine):
    """Measures at once: quality is minus the sum of errors, each times its layer's sensitivity."""

    name = "measured"

    def __init__(self, found: Costs, fail: Sequence[int] = ()) -> None:
        super().__init__(EngineSettings(), lambda: lambda places: lambda job: job.failed("not asked"), {})
        self.found, self.fail, self.jobs = found, fail, 0

    @property
    def workers(self) -> int:
        return 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        for job in jobs:
            self.jobs += 1
            indices = self.found.space.encode(job.recipe)
            places = self.found.space.places(indices)
            cost = self.found.tables["quantized_error"] * sensitivities(self.found)
            metrics = self.found.metrics(job.recipe) | {"quality": -float(cost[np.arange(len(places)), places].sum())}
            trial = Trial(job.recipe, metrics, fidelity=job.fidelity, number=job.number, strategy=job.strategy)
            failed = Evaluated(job.trial("failed", "as asked"), not_finite=True)
            yield failed if job.number in self.fail else Evaluated(trial)
