"""The local engine: processes on this machine, one a GPU, or some on the CPU's cores."""

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import wait
from typing import ClassVar

from q2.search.engines.base import Engine, Load, Places, Worker
from q2.search.engines.forkserver import Start
from q2.search.engines.processes import Process, Server, WorkerDiedError
from q2.search.evaluation.jobs import Evaluated, Job
from q2.settings import EngineSettings

__all__ = ["Local", "own_workers"]


class Local(Engine):
    """Processes, each with its share of the cores, or, where they compute on CUDA, with a GPU of its own.

    One worker alone works in this very process. On the CPU others are forked from one process that has imported what
    they need. CUDA does not outlive a fork, nor do libraries of other systems than Linux: there each worker imports.
    """

    name: ClassVar[str] = "local"

    def __init__(self, settings: EngineSettings, load: Load, places: Places) -> None:
        super().__init__(settings, load, places)
        self._gpus = _gpus(self.device)
        self._workers = settings.workers or own_workers(self.device)
        self._forks = not self._gpus and not self.device.startswith("cuda:") and sys.platform == "linux"
        self._servers: list[Server | None] = [None] * (1 if self._forks else self._workers)
        self._processes: list[Process | None] = [None] * self._workers

    @property
    def workers(self) -> int:
        """How many processes there are."""
        return self._workers

    def prepare(self) -> None:
        """Start the process that imports for all workers."""
        if self._workers > 1 and self._forks:
            self._server(0)

    def warm(self) -> None:
        """Start the processes and let them load."""
        if self._workers > 1:
            for place in range(self._workers):
                self._process(place).load()

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        """Yield the result of every job."""
        if self._workers == 1:
            yield from map(self._worker, jobs)
            return
        waiting = deque((job, 0) for job in jobs)
        running: dict[int, tuple[Job, int]] = {}
        while waiting or running:
            for place in range(self._workers):
                if waiting and place not in running:
                    running[place] = waiting.popleft()
                    self._submit(place, running[place][0])
            for place in self._ready(list(running)):
                job, tries = running[place]
                try:
                    found = self._process(place).receive()
                except WorkerDiedError:
                    del running[place]
                    how = self._stop(place)
                    if tries < self.settings.retries:
                        waiting.appendleft((job, tries + 1))
                    else:
                        yield job.failed(f"the worker died {tries + 1} times: {how}")
                    continue
                if found is not None:
                    del running[place]
                    yield found

    def close(self) -> None:
        """Stop the processes."""
        for process in self._processes:
            if process is not None:
                process.dismiss()
        for place in range(self._workers):
            self._stop(place)
        for place, server in enumerate(self._servers):
            if server is not None:
                server.close()
                self._servers[place] = None
        vars(self).pop("_worker", None)

    @cached_property
    def _worker(self) -> Worker:
        """The worker in this process."""
        return self.load()(self.places)

    def _submit(self, place: int, job: Job) -> None:
        try:
            self._process(place).submit(job)
        except WorkerDiedError:  # while it was idle
            self._stop(place)
            with suppress(WorkerDiedError):  # which is seen when its result is received
                self._process(place).submit(job)

    def _ready(self, places: Sequence[int]) -> list[int]:
        """Return the places whose workers have something to say, once there is one."""
        ready = wait([self._process(place).jobs for place in places])
        return [place for place in places if self._process(place).jobs in ready]

    def _process(self, place: int) -> Process:
        process = self._processes[place]
        if process is None:
            index = 0 if self._forks else place
            try:
                process = self._server(index).worker()
            except OSError:  # it is gone
                self._close_server(index)
                process = self._server(index).worker()
            self._processes[place] = process
        return process

    def _server(self, place: int) -> Server:
        server = self._servers[place]
        if server is None:
            threads = max(1, (os.cpu_count() or 1) // self._workers)
            env = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
            if self._forks:  # threads of OpenMP do not outlive a fork: there are to be none before it
                env |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            if self._gpus:
                env["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
            server = Server(Start(self.load, self.places, threads), forks=self._forks, env=env)
            self._servers[place] = server
        return server

    def _stop(self, place: int) -> str:
        """Stop a worker; return how it ended."""
        process, self._processes[place] = self._processes[place], None
        how = "" if process is None else process.stop()
        if not self._forks:
            self._close_server(place)
        return how

    def _close_server(self, place: int) -> None:
        server, self._servers[place] = self._servers[place], None
        if server is not None:
            server.close()


def own_workers(device: str) -> int:
    """Return the default number of workers on this machine: one for each GPU, or for every two cores."""
    return 1 if device.startswith("cuda:") else len(_gpus(device)) or max(1, (os.cpu_count() or 1) // 2)


def _gpus(device: str) -> list[str]:
    """Return the GPUs that workers on `device` share out, as CUDA_VISIBLE_DEVICES names them; none for ``cuda:1``."""
    import torch

    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]
