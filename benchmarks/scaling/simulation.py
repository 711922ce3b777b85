"""A search on many GPUs, simulated: seconds of trials from measured steps, their spread from a real store of trials."""

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from q2.search.trials.store import TrialStore

__all__ = [
    "FIDELITIES",
    "SPREAD",
    "Driver",
    "Outcome",
    "Round",
    "full",
    "laddered",
    "seconds_of",
    "simulate",
    "spread_of",
]

Fidelity = str
FIDELITIES: tuple[Fidelity, ...] = ("forward", "few-step", "full")

STEP, BATCH = 0.147, 8
"""Seconds of a step of SDXL's U-Net at 1024² with a batch of 8, float16, as a CUDA graph on an H100
(`python -m benchmarks.packed_gpu`)."""
GUIDED, STEPS, IMAGES, FEW_STEPS, FEW_IMAGES, INPUTS = 2, 40, 1000, 4, 64, 32
"""Passes of an image's step, and q2's defaults for SDXL."""
SPREAD = (0.595, 0.658, 0.703, 0.748, 0.928, 1.0, 1.081, 1.153, 1.225, 1.468, 1.748)
"""Deciles, with least and largest, of trials' seconds by their median: 188 trials of a search of digits-sdxl at
`few-step` on two cores that other work shared."""


@dataclass(frozen=True)
class Driver:
    """Seconds that the process which searches takes, a trial: to ask for it; to store what came of it and tell it."""

    ask: float = 0.0
    keep: float = 0.0


@dataclass(frozen=True)
class Round:
    """Trials of one fidelity that are asked for together; the next round waits for all of them."""

    fidelity: Fidelity
    trials: int


@dataclass(frozen=True)
class Outcome:
    """Seconds of the clock, seconds that the GPUs worked, seconds that the driver did, and trials in all."""

    wall: float
    worked: float
    driver: float
    trials: int
    gpus: int

    @property
    def busy(self) -> float:
        """The share of the GPUs' time in which they worked."""
        return self.worked / (self.wall * self.gpus)


def seconds_of(fidelity: Fidelity, step: float = STEP, images: int = IMAGES) -> float:
    """Return the seconds of the U-Net in a trial of SDXL; decoding and scoring images come on top.

    >>> seconds_of("full"), round(seconds_of("few-step"), 2), round(seconds_of("forward"), 2)
    (1470.0, 9.41, 1.18)
    """
    count, steps = {"full": (images, STEPS), "few-step": (FEW_IMAGES, FEW_STEPS), "forward": (INPUTS, 1)}[fidelity]
    return math.ceil(count * GUIDED / BATCH) * steps * step


def spread_of(folder: Path, fidelity: Fidelity = "few-step") -> tuple[float, ...]:
    """Return deciles of the seconds of a store's trials by their median. Raises ValueError for fewer than 20."""
    found = [trial.seconds for trial in TrialStore.read(folder) if trial.fidelity == fidelity and trial.seconds]
    if len(found) < 20:
        raise ValueError(f"{folder}: {len(found)} trials at {fidelity!r} say how long they took; expected 20 or more")
    return tuple((np.quantile(found, np.linspace(0, 1, 11)) / np.median(found)).round(3).tolist())


def full(trials: int) -> list[Round]:
    """Return the rounds of a strategy that asks for everything at once: all trials in full."""
    return [Round("full", trials)]


def laddered(trials: int, batch: int, keep: float = 0.5) -> list[Round]:
    """Return the rounds of `optuna` with the rungs `forward` and `few-step`: batches until so many were asked for.

    >>> [(each.fidelity, each.trials) for each in laddered(24, 16)]
    [('forward', 16), ('few-step', 8), ('full', 4), ('forward', 8), ('few-step', 4), ('full', 2)]
    """
    rounds = []
    for start in range(0, trials, batch):
        count = min(batch, trials - start)
        for fidelity in FIDELITIES:
            rounds.append(Round(fidelity, count))
            count = math.ceil(keep * count)
    return rounds


def simulate(
    rounds: Sequence[Round],
    gpus: int,
    driver: Driver,
    seconds: Callable[[Fidelity], float] = seconds_of,
    *,
    spread: Sequence[float] = SPREAD,
    seed: int = 0,
) -> Outcome:
    """Run the rounds: a worker takes the next trial as soon as the driver has dealt with its last one.

    Seconds of trials are drawn from `spread`, deciles about 1, by linear interpolation. The driver does one thing at a
    time: it asks for all trials of a round before the first starts, and keeps each result as it comes.

    >>> simulate([Round("full", 4)], 2, Driver(), lambda _: 10.0, spread=[1.0, 1.0]).wall
    20.0
    >>> simulate([Round("full", 4)], 4, Driver(ask=1.0, keep=2.0), lambda _: 10.0, spread=[1.0, 1.0]).wall
    22.0
    """
    rng = np.random.default_rng(seed)
    now = worked = spent = 0.0
    for each in rounds:
        now += driver.ask * each.trials
        spent += (driver.ask + driver.keep) * each.trials
        left = _drawn(rng, each.trials, seconds(each.fidelity), spread)
        ends: list[float] = []
        for _ in range(min(gpus, each.trials)):
            worked += (took := next(left))
            heapq.heappush(ends, now + took)
        while ends:
            now = max(now, heapq.heappop(ends)) + driver.keep
            if (following := next(left, None)) is not None:
                worked += following
                heapq.heappush(ends, now + following)
    return Outcome(now, worked, spent, sum(each.trials for each in rounds), gpus)


def _drawn(rng: np.random.Generator, count: int, seconds: float, spread: Sequence[float]) -> Iterator[float]:
    places = np.linspace(0, 1, len(spread))
    return iter((seconds * np.interp(rng.random(count), places, spread)).tolist())
