"""The local engine: processes on this machine, one a GPU, or some on the CPU's cores."""

import os
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from joblib.externals.loky import process_executor
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from q2.plugins.catalogue import one_line
from q2.search.engines.base import Engine, Load, Make, Places, Worker
from q2.search.evaluation.jobs import Evaluated, Job
from q2.settings import EngineSettings

__all__ = ["Local"]


class Local(Engine):
    """Processes of joblib's loky, each with its share of the cores, or with a GPU of its own.

    One worker alone works in this very process.
    """

    name: ClassVar[str] = "local"

    def __init__(self, settings: EngineSettings, load: Load, places: Places) -> None:
        super().__init__(settings, load, places)
        self._gpus = _gpus()
        self._workers = settings.workers or len(self._gpus) or max(1, (os.cpu_count() or 1) // 2)
        self._start = _Start(uuid.uuid4().hex, load, places)
        self._places: list[Any] = [None] * self._workers
        self._last: dict[int, Future[Any]] = {}

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self._workers

    def warm(self) -> None:
        """Start the processes and let them load."""
        if self._workers > 1:
            for place in range(self._workers):
                self._last[place] = self._executor(place).submit(_warmed, self._start)

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        """Yield what comes of every job."""
        if self._workers == 1:
            yield from map(_worker(self._start), jobs)
            return
        waiting = deque((job, 0) for job in jobs)
        idle = list(range(self._workers))
        running: dict[Future[Evaluated], tuple[Job, int, int]] = {}
        while waiting or running:
            while waiting and idle:
                job, tries = waiting.popleft()
                place = idle.pop(0)
                self._last[place] = self._submit(place, job)
                running[self._last[place]] = job, tries, place
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, tries, place = running.pop(future)
                idle.append(place)
                error = future.exception()
                if error is None:
                    yield future.result()
                elif not isinstance(error, BrokenProcessPool):
                    raise error
                else:
                    self._stop(place)
                    if tries < self.settings.retries:
                        waiting.appendleft((job, tries + 1))
                    else:
                        yield job.failed(f"the worker died {tries + 1} times: {one_line(error)}")

    def close(self) -> None:
        """Stop the processes."""
        for place in range(self._workers):
            self._stop(place)
        _loaded.cache_clear()
        _worker.cache_clear()

    def _submit(self, place: int, job: Job) -> Future[Evaluated]:
        try:
            return self._executor(place).submit(_run, self._start, job)  # type: ignore[no-any-return]
        except BrokenProcessPool:  # it died while it was idle
            self._stop(place)
            return self._executor(place).submit(_run, self._start, job)  # type: ignore[no-any-return]

    def _executor(self, place: int) -> Any:
        if self._places[place] is None:
            threads = str(max(1, (os.cpu_count() or 1) // self._workers))
            env = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
            if self._gpus:
                env["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
            self._places[place] = ProcessPoolExecutor(
                max_workers=1, env=env, initializer=_begin, initargs=(os.getpid(),)
            )
        return self._places[place]

    def _stop(self, place: int) -> None:
        executor, self._places[place] = self._places[place], None
        if executor is not None:  # one that is idle ends by itself, and cleans up what its libraries hold
            idle = place in self._last and self._last[place].done()
            executor.shutdown(wait=True, kill_workers=not idle)


@dataclass(frozen=True)
class _Start:
    """How a process makes its worker; two are the same if their token is."""

    token: str
    load: Load = field(compare=False)
    places: Places = field(compare=False)


@lru_cache(maxsize=1)
def _loaded(start: _Start) -> Make:
    return start.load()


@lru_cache(maxsize=1)
def _worker(start: _Start) -> Worker:
    return _loaded(start)(start.places)


def _run(start: _Start, job: Job) -> Evaluated:
    return _worker(start)(job)


def _warmed(start: _Start) -> None:
    """Load ahead of time; what goes wrong is said when there are jobs."""
    with suppress(Exception):
        _loaded(start)


def _begin(parent: int) -> None:
    """Leave Ctrl-C to the process that started this one, do not outlive it if it is killed, and stay if it grows.

    loky ends a process that has grown by 300 MB since its first job, as it may leak; here it has loaded a denoiser.
    """
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
