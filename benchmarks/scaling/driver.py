"""The process that searches, alone: its CPU time a trial with workers that take no time, and what it sends and gets."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from benchmarks.scaling.simulation import Driver
from q2.graph import Graph
from q2.search.engines.base import Engine
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.loop import run
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.settings import EngineSettings, Fidelity

__all__ = ["Instant", "Timed", "folder_bytes", "messages", "problem_of_size", "timed"]

MEASURED = ("SQNR", "latent-SQNR", "PSNR", "SSIM", "judge-fid", "judge-accuracy")
OPTIONS = tuple(f"{kind}-{bits}" for bits in (4, 3, 2) for kind in ("kmeans-c", "kmeans-a", "uaq"))
RUN = Fingerprint("made-up", "0a1b", "0.1.0")
TOKENS = {"bank": "0123456789abcdef", "reference": "fedcba9876543210"}


@dataclass(frozen=True)
class Timed:
    """CPU seconds a trial of a search: in the strategy, asking and being told, and in the rest, the store above all.

    `wall` are the seconds of the clock a trial, of all of it.
    """

    trials: int
    ask: float
    tell: float
    rest: float
    wall: float

    @property
    def driver(self) -> Driver:
        """What the simulation takes."""
        return Driver(self.ask, self.tell + self.rest)


def problem_of_size(layers: int, trials: int, fidelity: Fidelity = "full") -> Problem:
    """Return a search's problem with so many choices of nine options, named as SDXL's."""
    names = [f"down_blocks.{i % 3}.attentions.{i % 2}.transformer_blocks.{i // 6}.attn1.to_q" for i in range(layers)]
    space = Space.of(dict.fromkeys(names, 1000), OPTIONS)
    bits = np.array([float(option[-1]) for option in space.options])
    costs = Costs(space, {"avg_bits": np.tile(bits / layers, (layers, 1))}, {"avg_bits": 0.0})
    target = Target.parse("SQNR - avg_bits", ["SQNR", "avg_bits"])
    return Problem(space, costs, target, cast(Graph, None), trials, 0, fidelity)


class Instant(Engine):
    """Measures nothing, in no time: metrics are made up."""

    name: ClassVar[str] = "instant"

    def __init__(self, costs: Costs) -> None:
        super().__init__(EngineSettings(), lambda: lambda places: self.measure, {})
        self.costs, self.rng = costs, random.Random(0)

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        """Yield what comes of every job."""
        yield from map(self.measure, jobs)

    def measure(self, job: Job) -> Evaluated:
        """Make up six metrics with intervals, beside those that are sums."""
        values = {name: 20 * self.rng.random() for name in MEASURED}
        bounds = {name: (value - self.rng.random(), value + self.rng.random()) for name, value in values.items()}
        metrics = values | self.costs.metrics(job.recipe)
        asked: dict[str, Any] = {"fidelity": job.fidelity, "seed": job.seed, "number": job.number}
        trial = Trial(job.recipe, metrics, bounds, seconds=9 * self.rng.random(), strategy=job.strategy, **asked)
        return Evaluated(trial, {"switch": 0.5, "sample": 8.0, "score": 0.5})


class _Watched(Searcher):
    """Counts the CPU seconds of another searcher."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher, self.asking, self.telling = searcher, 0.0, 0.0

    def ask(self, most: int) -> Sequence[Proposal]:
        """Ask it."""
        start = time.process_time()
        found = self.searcher.ask(most)
        self.asking += time.process_time() - start
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        """Tell it."""
        start = time.process_time()
        self.searcher.tell(trials)
        self.telling += time.process_time() - start

    def close(self) -> None:
        """Close it."""
        self.searcher.close()


def timed(strategy: Strategy, folder: Path, trials: int, layers: int) -> Timed:
    """Search with a strategy and workers that take no time, with a store in `folder`."""
    problem = problem_of_size(layers, trials)
    watched, engine = _Watched(strategy.searcher(problem)), Instant(problem.costs)
    store = TrialStore.open(folder, RUN)
    jobs = [Job(problem.space.draw(1, number, 0, 1), "full") for number in range(20)]
    measuring = time.process_time()
    made = sum(1 for _ in engine.run(jobs))
    measuring = (time.process_time() - measuring) / made  # which is a worker's work
    start, clock = time.process_time(), time.perf_counter()
    done = run(problem, watched, engine, store, name=strategy.name, needed={"full": ["SQNR"]})
    wall, spent = time.perf_counter() - clock, time.process_time() - start
    count = len(done.trials)
    rest = (spent - watched.asking - watched.telling) / count - measuring
    return Timed(count, watched.asking / count, watched.telling / count, max(rest, 0.0), wall / count)


def messages(layers: int) -> Mapping[str, int]:
    """Return the bytes of a job and of what comes of it, as Ray's cloudpickle has them; nothing is written."""
    from ray import cloudpickle

    problem = problem_of_size(layers, 1)
    job = Job(problem.space.draw(0, 0, 0, 1), "full", 0, 17, "random")
    result = Instant(problem.costs).measure(job)
    return {name: len(cloudpickle.dumps(each)) for name, each in (("job", (job, TOKENS)), ("result", result))}


def folder_bytes(images: int, side: int = 1024, channels: int = 4) -> int:
    """Return the bytes of full precision's images in a run's folder: pixels, and float32 latents an eighth as wide.

    >>> folder_bytes(1000)
    3407872000
    """
    return images * (3 * side**2 + 4 * channels * (side // 8) ** 2)
