"""Worker processes, seen from the process that has jobs for them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle

from joblib.externals.loky.backend.reduction import dumps

from q2.search.engines.forkserver import FORK, LOAD, WORK, Start
from q2.search.evaluation.jobs import Evaluated, Job

__all__ = ["Process", "Server", "WorkerDiedError"]

_SECONDS = 10.0


class WorkerDiedError(Exception):
    """A worker is gone, and with it what it was at."""


class _ThereError(Exception):
    """The traceback of an error in a worker."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


@dataclass(eq=False)
class Process:
    """A worker: `jobs` leads to it, and it ends once `life` is closed. `pid` is 0 until it has started."""

    server: "Server"
    jobs: Connection
    life: int
    pid: int = 0
    idle: bool = True

    def load(self) -> None:
        """Let it load ahead of time."""
        with suppress(OSError):  # it is gone, which the first job shows
            self.jobs.send(LOAD)

    def submit(self, job: Job) -> None:
        """Give it a job. Raises `WorkerDiedError`."""
        try:
            self.jobs.send(job)
        except OSError:
            raise WorkerDiedError from None
        self.idle = False

    def receive(self) -> Evaluated | None:
        """Receive a message: return the result of a job, or None if the message says that the worker has started.

        Raises `WorkerDiedError`, or what its job raised there.
        """
        try:
            found = self.jobs.recv()
        except (EOFError, OSError):
            raise WorkerDiedError from None
        if isinstance(found, int):
            self.pid = found
            return None
        self.idle = True
        result, trace = found
        if isinstance(result, Exception):
            raise result from _ThereError(trace)
        assert isinstance(result, Evaluated)
        return result

    def dismiss(self) -> None:
        """Give it no more jobs: it ends if it is idle."""
        with suppress(OSError, WorkerDiedError):
            while not self.pid and self.jobs.poll():
                self.receive()
        self.jobs.close()

    def stop(self) -> str:
        """Let it end if it is idle, kill it if not; return how it ended."""
        self.dismiss()
        code = self.server.end(self.pid, kill=not self.idle)
        os.close(self.life)
        if code is None:
            return "it could not be started, or its server is gone"
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class Server:
    """A process that has imported what workers need. Workers are forks of it; or, with `forks` False, it is the one."""

    def __init__(self, start: Start, *, forks: bool, env: Mapping[str, str]) -> None:
        """Start it, with `env` added to the environment; it imports while other things are done here."""
        self._forks = forks
        ours, theirs = socket.socketpair()
        life, self._life = os.pipe()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from q2.search.engines.forkserver import main; main({theirs.fileno()}, {life})"
        )
        # Ctrl-C is for the process that started this one: its handler stops the workers
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(  # noqa: S603 (Python itself)
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), life),
                env={**os.environ, **env},
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            os.close(life)
        self._control = Connection(ours.detach())
        self._control.send_bytes(dumps(start))

    def worker(self) -> Process:
        """Return a new worker, which starts as soon as what it needs is imported. Raises `OSError` if that is gone."""
        ours, theirs = socket.socketpair()
        life, kept = os.pipe()
        try:
            self._control.send((FORK if self._forks else WORK,))
            for handle in (theirs.fileno(), life):
                send_handle(self._control, handle, self._process.pid)
        except OSError:
            ours.close()
            os.close(kept)
            raise
        finally:
            theirs.close()
            os.close(life)
        return Process(self, Connection(ours.detach()), kept)

    def end(self, pid: int, *, kill: bool) -> int | None:
        """Wait for a worker, or kill it; return its exit code, or None if it is unknown."""
        if not self._forks:
            return self._wait(kill=kill or not pid)
        if not pid:
            return None
        try:
            self._control.send(("reap", pid, kill))
            return int(self._control.recv())
        except (EOFError, OSError):  # the server is gone
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return None

    def close(self) -> None:
        """End it; workers that are left end with it."""
        self._wait(kill=True)
        self._control.close()
        os.close(self._life)

    def _wait(self, *, kill: bool) -> int:
        if kill:
            self._process.kill()
        try:
            return self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
