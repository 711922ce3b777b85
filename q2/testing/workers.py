"""Workers that measure nothing: the option of the layer ``do`` says what they do. They import no torch."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from q2.errors import ConfigError
from q2.search.engines.base import Make, Places, Worker
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.trials.trial import Trial

__all__ = ["Prepared", "broken", "jobs", "load", "made", "reader", "values"]

_HELD: list[bytes] = []


def jobs(count: int, **do: str) -> list[Job]:
    """Return jobs 0 to `count`; ``job3="kill"`` says what number 3 does.

    That is ``kill`` its process, ``kill once``, ``sleep SECONDS``, ``hold MEGABYTES`` or ``measure``.
    """
    return [
        Job({"number": str(number), "do": do.get(f"job{number}", "measure")}, "weights", number=number)
        for number in range(count)
    ]


def load(scratch: Path) -> Make:
    """Load nothing; `scratch` keeps what has been done once, and a file for every process that loads or makes."""
    _note(scratch, "loaded")

    def make(places: Places) -> Worker:
        _note(scratch, "made")
        return lambda job: _measure(job, scratch)

    return make


@dataclass(frozen=True)
class Prepared:
    """A `load` that prepares first, in `seconds`."""

    scratch: Path
    seconds: float = 0.0

    def prepare(self) -> None:
        """Take its time."""
        _note(self.scratch, "prepared")
        time.sleep(self.seconds)

    def __call__(self) -> Make:
        """Load nothing."""
        return load(self.scratch)


def _note(scratch: Path, what: str) -> None:
    (scratch / f"{what}-{os.getpid()}-{time.monotonic_ns()}").touch()


def broken() -> Make:
    """Raise `ConfigError`, as a run file's mistake that shows where a worker loads."""
    raise ConfigError("run.toml: denoiser.name: no such thing here")


def _measure(job: Job, scratch: Path) -> Evaluated:
    done = scratch / f"done-{job.number}"
    do = job.recipe["do"]
    if do == "kill" or (do == "kill once" and not done.exists()):
        done.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if do.startswith("sleep"):
        time.sleep(float(do.split()[1]))
    if do.startswith("hold"):
        _HELD.append(b"x" * (int(do.split()[1]) << 20))
    threads = float(os.environ.get("OMP_NUM_THREADS", "0"))
    number = float(job.recipe["number"])
    metrics = {"pid": float(os.getpid()), "parent": float(os.getppid()), "threads": threads, "value": number**2}
    return Evaluated(Trial(job.recipe, metrics, fidelity=job.fidelity, number=job.number), {"score": 0.5})


def made(scratch: Path) -> int:
    """Return how many workers were made, each of what was loaded once."""
    count = len(list(scratch.glob("made-*")))
    assert len(list(scratch.glob("loaded-*"))) == count
    return count


def values(found: Sequence[Evaluated]) -> Mapping[int, float]:
    """Return the value of every job that was measured; each came once."""
    numbers = [result.trial.number for result in found]
    assert len(set(numbers)) == len(numbers)
    return {r.trial.number: r.trial.metrics["value"] for r in found if r.trial.number is not None and r.trial.metrics}


def reader() -> Make:
    """Make workers whose trials say where the files lie that they have read."""

    def make(places: Places) -> Worker:
        path = places["bank"] / "layers" / "a.txt"
        path.read_bytes()
        return lambda job: job.failed(f"{path} {places['shared']}")

    return make
