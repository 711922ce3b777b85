"""The program that workers are processes of: it imports what they need, then is forked, or becomes a worker itself.

It has one thread and computes nothing, so that its forks are whole. It ends with the process that started it, however
that ends, and so do the workers.
"""

import atexit
import gc
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pickle import loads
from typing import NoReturn

from q2.search.engines.base import Load, Places, Prepares, Worker
from q2.search.evaluation.jobs import Job

__all__ = ["FORK", "LOAD", "WORK", "Answer", "Start", "main"]

FORK, WORK, LOAD = "fork", "work", "load"
Answer = tuple[object, str]
"""The result of a job: `Evaluated`; or the error, with the text of its traceback."""

_PATIENCE = 20.0
"""Seconds that an idle worker has to clean up what its libraries hold."""


@dataclass(frozen=True)
class Start:
    """How a worker is made, and its number of threads."""

    load: Load
    places: Places
    threads: int


def main(control_handle: int, life_handle: int) -> None:
    """Import what the workers need, then do as the process at the other end of `control_handle` says, until it ends."""
    control = Connection(control_handle)
    with suppress(EOFError, OSError):
        with _ending_with(life_handle):
            start: Start = loads(control.recv_bytes())  # noqa: S301 (our own process wrote it)
            _prepare(start.load)
        children = _Children()
        try:
            while True:
                verb, *given = control.recv()
                if verb in (FORK, WORK):
                    jobs, life = recv_handle(control), recv_handle(control)
                    if verb == WORK or children.fork():
                        control.close()
                        _work(start, Connection(jobs), life)
                        _exit()
                    os.close(jobs)
                    os.close(life)
                else:
                    pid, kill = given
                    control.send(children.end(pid, kill=kill))
        finally:
            for pid in list(children.codes):
                children.end(pid, kill=True)


def _prepare(load: Load) -> None:
    """Import; what goes wrong is said when there are jobs.

    The garbage collector leaves alone what is imported: nothing of it ends, and workers go on sharing its pages.
    """
    if isinstance(load, Prepares):
        gc.disable()
        with suppress(Exception):
            load.prepare()
        gc.freeze()
        gc.enable()


def _work(start: Start, jobs: Connection, life: int) -> None:
    """Do the jobs that come, until no more can."""
    _use_threads(start.threads)
    worker: Worker | None = None
    make = None
    with _ending_with(life), suppress(EOFError, OSError):
        jobs.send(os.getpid())
        while True:
            job: Job | str = jobs.recv()
            try:
                make = make or start.load()
                if not isinstance(job, Job):
                    continue
                worker = worker or make(start.places)
                answer: Answer = worker(job), ""
            except Exception as error:  # noqa: BLE001 (a plugin may raise anything; it is raised where jobs come from)
                if not isinstance(job, Job):  # loading ahead of time; it is said when there are jobs
                    continue
                answer = error, traceback.format_exc()
            try:
                jobs.send(answer)
            except (AttributeError, TypeError, ValueError) as error:  # no pickle of it
                jobs.send((RuntimeError(f"{type(answer[0]).__name__}: {answer[0]} ({error})"), answer[1]))


def _exit() -> NoReturn:
    """Let libraries clean up, and end; to take everything apart takes seconds."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


def _use_threads(count: int) -> None:
    """Compute in `count` threads, in libraries that are imported already and others."""
    os.environ |= {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)


@contextmanager
def _ending_with(life: int) -> Iterator[None]:
    """End this process at once if the other end of the pipe `life` closes; the handle is closed at the end."""
    done, stop = os.pipe()

    def watch() -> None:
        if life in select.select([life, done], [], [])[0]:
            os._exit(1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(stop, b".")
        thread.join()
        for handle in (life, done, stop):
            os.close(handle)


class _Children:
    """The forked processes and, for processes that have ended, their exit codes: negative for a signal's number."""

    def __init__(self) -> None:
        self.codes: dict[int, int | None] = {}

    def fork(self) -> bool:
        """Fork; return whether this is the child."""
        signal.signal(signal.SIGCHLD, self._collect)
        pid = os.fork()
        if pid:
            self.codes[pid] = None
        else:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self.codes.clear()
        return not pid

    def end(self, pid: int, *, kill: bool) -> int:
        """Wait for a process, or kill it; return its exit code."""
        deadline = time.monotonic() + (0 if kill else _PATIENCE)
        while True:
            self._collect()
            if (code := self.codes[pid]) is not None:
                del self.codes[pid]
                return code
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _collect(self, *signal: object) -> None:
        """Take the exit codes of processes that have ended, so that none stays as a zombie."""
        for pid in [pid for pid, code in self.codes.items() if code is None]:
            with suppress(ChildProcessError):
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
