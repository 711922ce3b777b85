"""Commands in forks of this process, which has imported what they need: their start takes no time."""

import ctypes
import importlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "children", "descendants", "ended", "processes", "rehearse", "start"]

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl: a signal that a process gets when its parent ends, here so that no command outlives a benchmark."""


class Command:
    """A command that runs: its process, which leads a session of its own, and the file with what it says."""

    def __init__(self, pid: int, said: Path) -> None:
        self.pid, self.said = pid, said

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self, seconds: float = 600) -> int:
        """Return the exit code. Raises AssertionError if it takes too long; it is killed then."""
        end = time.monotonic() + seconds
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"it did not end within {seconds:g} s: {self.last}")
            time.sleep(0.005)
        return code

    @property
    def text(self) -> str:
        """What it said."""
        return self.said.read_text(encoding="utf-8", errors="replace")

    @property
    def last(self) -> str:
        """The last line that it said."""
        return (self.text.strip().splitlines() or [""])[-1]


def start(
    args: Sequence[str],
    said: Path,
    *,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
    after: Callable[[], object] | None = None,
    folder: Path | None = None,
) -> Command:
    """Start ``q2 ARGS`` in a fork; what it says goes to a file; `before` is called in it first, `after` last."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Command(pid, said)
    code = 99
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (the process ends with it)
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ |= dict(environment or {})
        if folder:
            os.chdir(folder)
        if before:
            before()
        code = _main(args)
        if after:
            after()
    finally:
        os._exit(code)


def _main(args: Sequence[str]) -> int:
    from q2.cli import main

    sys.argv = ["q2", *args]
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1 if stop.code else 0
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def rehearse(args: Sequence[str], folder: Path) -> None:
    """Run a command once, and import what it has imported, so that the forks to come need not.

    It also compiles, for the caches on disk, what Numba does.
    """
    imported = folder / "modules.txt"
    start(args, folder / "first.txt", folder=folder, after=lambda: imported.write_text("\n".join(sys.modules))).wait()
    for name in imported.read_text(encoding="utf-8").splitlines() if imported.exists() else ():
        if name not in sys.modules and not name.startswith("__"):
            with suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)


@dataclass(frozen=True)
class Process:
    """A process of this machine that has not ended."""

    pid: int
    parent: int
    session: int


def processes() -> Iterator[Process]:
    """Yield all processes of this machine that have not ended."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):  # it has ended meanwhile
            state, parent, _, session = status.read_text(encoding="utf-8").rpartition(") ")[2].split()[:4]
            if state != "Z":
                yield Process(int(status.parent.name), int(parent), int(session))


def children(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    return [process.pid for process in processes() if process.session == session]


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    started: dict[int, list[int]] = {}
    for process in processes():
        started.setdefault(process.parent, []).append(process.pid)
    found = [pid]
    for each in found:
        found += started.get(each, [])
    return found[1:]


def ended(session: int, elsewhere: Callable[[], Sequence[int]] = lambda: (), seconds: float = 20) -> bool:
    """Say whether all processes of a session, and those `elsewhere`, end within some seconds by themselves.

    Those that do not are killed.
    """
    end = time.monotonic() + seconds
    while alive := [*children(session), *elsewhere()]:
        if time.monotonic() > end:
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.02)
    return True
