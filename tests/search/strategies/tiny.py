"""A search without a denoiser: four options a layer, whose error and bits are made up, and an engine that adds them."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from q2.graph import Graph
from q2.search.engines.base import Engine, Worker
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.loop import SearchRun, known, run
from q2.search.metrics.base import LADDER
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.strategies.base import Objective, Problem, Strategy
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.settings import EngineSettings, Fidelity

OPTIONS = ("uaq-4", "uaq-3", "kmeans-c-4", "kmeans-c-3")
BITS = {"uaq-4": 4.0, "uaq-3": 3.0, "kmeans-c-4": 4.5, "kmeans-c-3": 3.5}
LOSS = {"uaq-4": 3.0, "uaq-3": 9.0, "kmeans-c-4": 1.0, "kmeans-c-3": 4.0}
NEEDED: Mapping[Fidelity, Sequence[str]] = {
    "weights": (),
    "forward": ("SQNR",),
    "few-step": ("SQNR", "PSNR"),
    "full": ("SQNR", "PSNR"),
}


def space(layers: int = 6) -> Space:
    return Space.of({f"layer{i}": 10 * (i + 1) for i in range(layers)}, OPTIONS)


def measure(recipe: Mapping[str, str], fidelity: Fidelity) -> dict[str, float]:
    """Return the metrics: layer i weighs i + 1; a forward pass says nearly the same as images do."""
    weights = {layer: float(layer.removeprefix("layer")) + 1 for layer in recipe}
    loss = sum(weights[layer] * LOSS[option] for layer, option in recipe.items()) / sum(weights.values())
    found = {"avg_bits": sum(BITS[option] for option in recipe.values()) / len(recipe)}
    if fidelity != "weights":
        found["SQNR"] = 30.0 - loss
    if fidelity in ("few-step", "full"):
        found["PSNR"] = 40.0 - 1.5 * loss
    return found


def costs(of: Space) -> Costs:
    bits = np.array([[BITS[option] / len(of) for option in of.options] for _ in of.choices])
    return Costs(of, {"avg_bits": bits}, {"avg_bits": 0.0})


def problem(
    trials: int = 20,
    *,
    layers: int = 6,
    target: str = "PSNR - 4*avg_bits",
    constraints: Sequence[str] = (),
    objectives: Sequence[Objective] = (),
    fidelity: Fidelity = "full",
    **more: Any,
) -> Problem:
    where = space(layers)
    sums = costs(where)
    return Problem(
        where,
        sums,
        Target.parse(target, ["PSNR", "SQNR", "avg_bits"]),
        cast(Graph, None),
        trials,
        fidelity=fidelity,
        constraints=tuple(Constraint.parse(text, ["avg_bits"]) for text in constraints),
        objectives=tuple(objectives),
        measured={name: ["avg_bits", *NEEDED[name]] for name in LADDER},
        **more,
    )


@dataclass
class Fake(Engine):
    """An engine that adds numbers; `fails` says of which recipes it does not, `pause` is how long one takes."""

    fails: Callable[[Job], bool] = lambda job: False
    pause: float = 0.0
    jobs: list[Job] = field(default_factory=list)
    settings: EngineSettings = field(default_factory=EngineSettings)
    name = "fake"

    def __post_init__(self) -> None:
        self.make = cast(Callable[..., Worker], None)

    @property
    def workers(self) -> int:
        return 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        for job in jobs:
            self.jobs.append(job)
            time.sleep(self.pause)
            if self.fails(job):
                yield Evaluated(job.trial("failed", "made to fail"), not_finite=True)
            else:
                trial = Trial(job.recipe, measure(job.recipe, job.fidelity), fidelity=job.fidelity, number=job.number)
                yield Evaluated(trial)


def store(path: Path) -> TrialStore:
    return TrialStore.open(path, Fingerprint("tiny", "0", "0"))


def search(strategy: Strategy, of: Problem, engine: Fake, path: Path) -> SearchRun:
    """Search as `q2 search` does, in the store at `path`."""
    trials = store(path)
    of = replace(of, known=lambda proposal: known(of, trials, NEEDED, 0, proposal))
    return run(of, strategy.searcher(of), engine, trials, name="tiny", needed=NEEDED)


def recipes(done: SearchRun) -> list[tuple[str, ...]]:
    return [tuple(trial.recipe.values()) for trial in done.trials]


def log(path: Path) -> Callable[[Job], bool]:
    """Return a way to fail none and write down every job, with the process that had it."""

    def write(job: Job) -> bool:
        with path.open("a") as file:
            file.write(f"{os.getpid()} {' '.join(job.recipe.values())}\n")
        return False

    return write
