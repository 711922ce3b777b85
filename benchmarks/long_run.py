"""A long search whose workers die now and then: whether its trials, and its memory, stay what they were.

    python -m benchmarks.long_run [NAME] [--trials 2000] [--workers 2] [--every 20] [--strategy random] [--folder DIR]

A worker, drawn at random, is killed (SIGKILL) after 0.5 to 1.5 times `--every` seconds, over and over. The trials are
cut into ten parts in the order in which they were stored: a table says of each how long it took, and what the search's
own process and the largest worker held at its end. No trial may be there twice; a recipe that comes again is not
measured.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.faulty.running import descendants, processes
from benchmarks.memory import resident
from q2.search.trials.store import TrialStore
from q2.tables import drawn

PARTS = 10
LOADED = 0.1
"""GiB. A worker that holds less is still being forked."""


@dataclass(frozen=True)
class Sample:
    """What was seen at a moment: seconds since the start, lines of trials, resident GiB."""

    at: float
    trials: int
    search: float
    worker: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", nargs="?", default="digits-sdxl")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=float, default=20, help="seconds between kills, on average")
    parser.add_argument("--strategy", default="random")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="as of q2 search")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made) / "run"
        sets = [
            f"search.strategy={options.strategy}",
            "search.evaluation.fidelity=forward",
            "search.evaluation.metrics=[]",
            "search.target=SQNR",
            f"search.engine.workers={options.workers}",
            "samples.images=0",
            *options.sets,
        ]
        overrides = [word for each in sets for word in ("--set", each)]
        command = [sys.executable, "-m", "q2", "search", "--config", f"{options.name}.toml", *overrides]
        command += ["--trials", str(options.trials), "--out", str(folder)]
        samples, kills = watched(command, folder / "trials", options.every)
        report(samples, kills, TrialStore.read(folder / "trials"), options)


def watched(command: Sequence[str], store: Path, every: float) -> tuple[list[Sample], int]:
    """Run a search to its end, killing workers; return what was seen, and how many were killed."""
    rng, samples, kills = random.Random(0), list[Sample](), 0
    process, start = subprocess.Popen(command, stdout=subprocess.DEVNULL), time.monotonic()
    due = start + every
    while process.poll() is None:
        lines = stored(store)
        workers = workers_of(process.pid)
        held = max(map(resident, workers), default=0.0)
        samples.append(Sample(time.monotonic() - start, lines, resident(process.pid), held))
        if time.monotonic() > due and lines and workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), signal.SIGKILL)
                kills += 1
            due = time.monotonic() + every * rng.uniform(0.5, 1.5)
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(process.returncode)
    return samples, kills


def stored(store: Path) -> int:
    """Return how many lines a store's files have."""
    return sum(file.read_bytes().count(b"\n") for file in store.glob("*.jsonl"))


def workers_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that have started none: workers, and not what forks them."""
    parents = {process.parent for process in processes()}
    return [each for each in descendants(pid) if each not in parents and resident(each) > LOADED]


def report(samples: Sequence[Sample], kills: int, store: TrialStore, options: argparse.Namespace) -> None:
    """Print a line for every part of the trials, and whether all are there."""
    trials = list(store)
    rows = []
    for part in range(PARTS):
        low, high = (len(trials) * each // PARTS for each in (part, part + 1))
        before = [each.at for each in samples if each.trials <= low]
        within = [each for each in samples if low < each.trials <= high]
        if not (before and within):
            continue
        each = 1000 * (within[-1].at - before[-1]) / (high - low)
        inside = 1000 * median(trial.seconds for trial in trials[low:high])
        held = 1024 * within[-1].search, 1024 * within[-1].worker
        rows.append((f"{low + 1} to {high}", *(f"{value:.0f}" for value in (each, inside, *held))))
    names = ("trials", "ms a trial by the clock", "a worker's median, ms", "search, MiB", "largest worker, MiB")
    print(drawn(names, rows))
    numbers = [trial.number for trial in trials if trial.number is not None]
    states = ", ".join(sorted({trial.state for trial in trials}))
    again = options.trials - len(numbers)
    print(
        f"{len(numbers)} trials and {len(trials) - len(numbers)} baselines, states {states}; {again} recipes came "
        f"again; {kills} workers of {options.workers} at a time killed"
    )
    if len(set(numbers)) < len(numbers) or store.damaged:
        raise SystemExit(f"trials are doubled, or lines damaged: {store.damaged}")


if __name__ == "__main__":
    main()
