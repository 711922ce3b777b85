"""The engine `slurm`: workers are jobs of a Slurm cluster, which submitit submits."""

import json
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import submitit

from q2 import errors
from q2.errors import ConfigError, Q2Error, why
from q2.files import write_json
from q2.search.engines.base import Engine, Load, Places
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.trials.trial import Trial
from q2.settings import EngineSettings
from q2_plugin_slurm.worker import POLL, STOP, asked, done, serve

__all__ = ["Slurm"]

PATIENCE = 10.0


@dataclass
class _Seat:
    """A worker: its Slurm job, the folder through which it is reached, and how many jobs it was given."""

    job: Any
    box: Path
    given: int = 0


class Slurm(Engine):
    """Workers that are Slurm jobs; each loads the denoiser once and takes trials until the search ends.

    ``search.engine.address`` has submitit's parameters, as in ``"slurm_partition=gpu,gpus_per_node=1,timeout_min=240"``
    and, as ``folder=PATH``, a folder that all nodes see (``slurm-jobs`` by default); bank and images must lie where
    they see them too. Without Slurm, or with ``cluster=local``, the workers are processes of this machine. A worker
    whose Slurm job ends, is preempted or runs out of time counts as lost, and another is submitted.
    """

    name: ClassVar[str] = "slurm"

    def __init__(self, settings: EngineSettings, load: Load, places: Places) -> None:
        super().__init__(settings, load, places)
        wanted = _parsed(settings.address)
        folder = Path(str(wanted.pop("folder", "slurm-jobs"))).absolute()
        cluster = wanted.pop("cluster", None)
        self._folder = folder / uuid.uuid4().hex[:12]
        try:
            self._executor = submitit.AutoExecutor(folder / "logs", cluster=cluster)
            self._executor.update_parameters(**{"name": "q2", "timeout_min": 1440, **wanted})
        except (ValueError, TypeError, NameError, RuntimeError, OSError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ConfigError(f"search.engine.address: {settings.address!r}: {reason}") from error
        self._seats: dict[int, _Seat] = {}

    @property
    def workers(self) -> int:
        """How many Slurm jobs there are at a time: one if the run file does not say."""
        return self.settings.workers or 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        """Yield what comes of every job; one whose worker was lost is given to another, `retries` times."""
        waiting = deque((job, 0) for job in jobs)
        running: dict[int, tuple[Job, int]] = {}
        while waiting or running:
            for place in range(self.workers):
                if waiting and place not in running:
                    running[place] = waiting.popleft()
                    self._give(place, running[place][0])
            ready = [place for place in running if self._answered(place) or self._lost(place)]
            if not ready:
                time.sleep(POLL)
            for place in ready:
                job, tries = running.pop(place)
                if self._answered(place):
                    yield self._answer(place)
                    continue
                state = self._seats.pop(place).job.state
                if tries < self.settings.retries:
                    waiting.appendleft((job, tries + 1))
                else:
                    yield job.failed(f"the worker died {tries + 1} times: its Slurm job is {state}")

    def close(self) -> None:
        """End the workers, also those that wait in Slurm's queue."""
        seats, self._seats = list(self._seats.values()), {}
        for seat in seats:
            (seat.box / STOP).touch()
            if self._executor.cluster == "slurm":
                with suppress(OSError):
                    seat.job.cancel(check=False)
        deadline = time.monotonic() + PATIENCE
        while self._executor.cluster == "local" and time.monotonic() < deadline:
            if all(seat.job.done(force_check=True) for seat in seats):
                break
            time.sleep(POLL)

    def _give(self, place: int, job: Job) -> None:
        """Hand a job to the worker at a place; there is a new one if the last was lost meanwhile."""
        if place in self._seats and self._lost(place):
            del self._seats[place]
        if place not in self._seats:
            box = self._folder / f"worker-{place}-{uuid.uuid4().hex[:8]}"
            try:
                box.mkdir(parents=True)
            except OSError as error:
                raise ConfigError(f"search.engine.address: {box}: cannot be written: {why(error)}") from error
            self._seats[place] = _Seat(self._executor.submit(serve, box, self.load, dict(self.places)), box)
        seat = self._seats[place]
        seat.given += 1
        write_json(asked(seat.box, seat.given - 1), asdict(job))

    def _answered(self, place: int) -> bool:
        seat = self._seats[place]
        return done(seat.box, seat.given - 1).exists()

    def _lost(self, place: int) -> bool:
        """Say whether the Slurm job has ended; Slurm is asked once a minute at most."""
        return bool(self._seats[place].job.done(force_check=self._executor.cluster == "local"))

    def _answer(self, place: int) -> Evaluated:
        """Return what came of the last job of a worker. Raises what making the worker raised."""
        seat = self._seats[place]
        answer = json.loads(done(seat.box, seat.given - 1).read_text(encoding="utf-8"))
        if "raised" not in answer:
            return Evaluated(Trial.from_json(answer["trial"]), answer["spent"], answer["not_finite"])
        kind = getattr(errors, answer["raised"], None)
        if isinstance(kind, type) and issubclass(kind, Q2Error):
            raise kind(answer["words"])
        raise RuntimeError(f"a worker of the engine 'slurm' raised {answer['raised']}: {answer['words']}")


def _parsed(address: str) -> dict[str, Any]:
    """Return the parameters in an address, numbers as such. Raises `ConfigError`.

    >>> _parsed("slurm_partition=gpu, timeout_min=240")
    {'slurm_partition': 'gpu', 'timeout_min': 240}
    """
    found: dict[str, Any] = {}
    for part in filter(None, map(str.strip, address.split(","))):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not key or not equals or not value:
            raise ConfigError(f"search.engine.address: {part!r}: expected parameters such as slurm_partition=gpu")
        found[key] = int(value) if value.isdecimal() else value
    return found
