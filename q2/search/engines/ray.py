"""The Ray engine: actors on the nodes of a cluster, one a GPU, or one a core where there are no GPUs."""

import os
import socket
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from q2.errors import ConfigError, Q2Error, why
from q2.search.engines.base import Engine, Load, Make, Places, Worker
from q2.search.engines.shipping import Copies, digest, packed, unpack
from q2.search.evaluation.jobs import Evaluated, Job
from q2.settings import EngineSettings
from q2.version import version

__all__ = ["Ray"]

_PATIENCE = 600.0
_SECONDS = 5.0


class Ray(Engine):
    """Actors of a Ray cluster: the cluster at `address`, or one on this machine that ends with the search.

    A worker whose node does not have a folder of the run gets a copy through Ray's object store. Raises `ConfigError`
    if Ray is not installed.
    """

    name: ClassVar[str] = "ray"

    def __init__(self, settings: EngineSettings, load: Load, places: Places) -> None:
        super().__init__(settings, load, places)
        try:
            import ray
        except ImportError:
            raise ConfigError("the engine 'ray' needs Ray: pip install ray") from None
        self._ray: Any = ray
        self._token = uuid.uuid4().hex
        self._connected = self._ours = False
        self._gpus = False
        self._looked = 0.0
        self._slots: list[_Slot] = []
        self._shipped: dict[str, Any] = {}

    @property
    def workers(self) -> int:
        """How many actors there are, those included that still wait for a place in the cluster."""
        self.warm()
        return len(self._slots)

    def warm(self) -> None:
        """Join the cluster and start the actors, which load. Raises `Q2Error` for a cluster without GPUs and CPUs."""
        if self._slots:
            return
        self._connect()
        gpus = self._ray.cluster_resources().get("GPU", 0)
        self._gpus = gpus >= 1 and (self.device == "auto" or self.device.startswith("cuda"))
        self._grow(self.settings.workers or self._room())
        if not self._slots:
            raise Q2Error(f"engine 'ray': the cluster {self.settings.address or 'local'!r} has neither a GPU nor a CPU")

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        """Yield the result of every job as it ends. Raises `Q2Error` if a worker does not start."""
        self.warm()
        tokens = {name: digest(folder) for name, folder in self.places.items()}
        waiting = deque((job, 0) for job in jobs)
        while waiting or any(slot.job for slot in self._slots):
            if waiting and not self.settings.workers and time.monotonic() > self._looked + _SECONDS:
                self._grow(self._room())
            for slot in self._slots:
                if slot.idle and waiting:
                    slot.job = waiting.popleft()
                    slot.ref = slot.actor.measure.remote(slot.job[0], tokens)
            slot = self._next()
            job, tries = slot.job or (None, 0)
            try:
                result = self._ray.get(slot.ref)
            except self._ray.exceptions.RayTaskError as error:
                if job is None and not isinstance(error.cause, Q2Error):
                    raise Q2Error(f"engine 'ray': a worker does not start: {_first_line(error.cause)}") from error
                raise error.cause from None
            except self._ray.exceptions.RayError as error:  # the actor, its process or its node is gone
                self._restart(slot, error)
                if job and tries < self.settings.retries:
                    waiting.appendleft((job, tries + 1))
                elif job:
                    yield job.failed(f"the worker died {tries + 1} times: {_first_line(error)}")
                continue
            slot.ref = slot.job = None
            if job is None:
                slot.tries = 0
                _same_version(result)
            elif isinstance(result, Evaluated):
                yield result
            else:  # it lacks folders: give it copies, and the job again
                slot.job = job, tries
                slot.ref = slot.actor.measure.remote(job, tokens, self._copies(result))

    def close(self) -> None:
        """Kill the actors, and the cluster if this engine started it."""
        if self._connected:
            self._forget()
            for slot in self._slots:
                self._kill(slot)
            if self._ours:
                self._ray.shutdown()
        self._slots, self._shipped, self._connected = [], {}, False

    def _connect(self) -> None:
        address = self.settings.address
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _reach(address)
            quiet = {"log_to_driver": False, "logging_level": "ERROR"}
            more = {} if address else {"include_dashboard": False}
            try:
                self._ray.init(address=address or "local", **quiet, **more)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise ConfigError(f"address: no Ray cluster at {address or 'local'!r}: {_first_line(error)}") from error
        self._connected = True

    def _room(self) -> int:
        """Return how many actors all nodes that are there now can hold."""
        self._looked = time.monotonic()
        return int(self._ray.cluster_resources().get("GPU" if self._gpus else "CPU", 0))

    def _grow(self, count: int) -> None:
        """Start actors until there are `count`, with those whose nodes are gone, which wait for others."""
        for _ in range(count - len(self._slots)):
            slot = _Slot()
            self._start(slot)
            self._slots.append(slot)

    def _start(self, slot: "_Slot") -> None:
        share = {"num_gpus": 1, "num_cpus": 0} if self._gpus else {"num_cpus": 1}
        threads = None if self._gpus else 1
        remote = self._ray.remote(_Actor).options(scheduling_strategy="SPREAD", max_restarts=0, **share)
        slot.actor = remote.remote(self._token, threads, os.getcwd())
        slot.ref, slot.job = slot.actor.ready.remote(self.load, dict(self.places)), None

    def _restart(self, slot: "_Slot", error: Exception) -> None:
        """Replace an actor that died, unless actors do not even start."""
        starting = slot.job is None
        self._kill(slot)
        slot.tries = slot.tries + 1 if starting else 0
        if slot.tries <= self.settings.retries:
            self._start(slot)
        elif all(each.actor is None for each in self._slots):
            raise Q2Error(f"engine 'ray': no worker starts: {_first_line(error)}")

    def _kill(self, slot: "_Slot") -> None:
        if slot.actor is not None:
            with suppress(Exception):  # it may be dead, and so may the cluster
                self._ray.kill(slot.actor)
        slot.actor = slot.ref = slot.job = None

    def _next(self) -> "_Slot":
        """Return the first slot with a result or an error. Raises `Q2Error` if no actor gets resources."""
        by_ref = {slot.ref: slot for slot in self._slots if slot.ref is not None}
        working = any(slot.job for slot in self._slots)
        done, _ = self._ray.wait(list(by_ref), num_returns=1, timeout=None if working else _PATIENCE)
        if not done:
            raise Q2Error(f"engine 'ray': the cluster had no place for a worker in {_PATIENCE / 60:.0f} minutes")
        return by_ref[done[0]]

    def _copies(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the contents of folders in the object store; each is put there once."""
        for name in names:
            if name not in self._shipped:
                self._shipped[name] = {path: self._ray.put(data) for path, data in packed(self.places[name])}
        return {name: self._shipped[name] for name in names}

    def _forget(self) -> None:
        """Have the copies removed by the actors that have time."""
        idle = [slot.actor for slot in self._slots if slot.idle] if self._shipped else []
        with suppress(Exception):  # what cannot be removed lies in a temporary folder
            self._ray.wait([actor.forget.remote() for actor in idle], num_returns=len(idle), timeout=_SECONDS)


@dataclass(eq=False)
class _Slot:
    """A place for an actor: `ref` is what is awaited of it, `job` (with how often it was tried) what it works on.

    `tries` counts the actors in a row that died before they were ready.
    """

    actor: Any = None
    ref: Any = None
    job: tuple[Job, int] | None = None
    tries: int = 0

    @property
    def idle(self) -> bool:
        """Whether there is an actor that is ready for a job."""
        return self.actor is not None and self.ref is None


class _Actor:
    """A worker in a process of its own, on some node."""

    def __init__(self, token: str, threads: int | None, folder: str) -> None:
        self.copies = Copies(token)
        self.worker: Worker | None = None
        if threads:
            os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with suppress(OSError):  # relative paths of the run file mean the same if the folder is here, too
            os.chdir(folder)

    def ready(self, load: Load, places: Places) -> str:
        """Load what the worker needs. Return q2's version."""
        self.make: Make = load()
        self.places = places
        return version()

    def measure(
        self, job: Job, tokens: Mapping[str, str], copies: Mapping[str, Mapping[str, Any]] | None = None
    ) -> Evaluated | list[str]:
        """Measure a recipe; or return the names of folders that are not here as the engine knows them."""
        if self.worker is None:
            theirs = {name: self.copies.folder / name for name in tokens if digest(self.places[name]) != tokens[name]}
            if theirs:
                self.copies.hold()
            for name, files in (copies or {}).items():
                unpack(self.copies.folder / name, files, _fetched)
            lacking = [name for name, copy in theirs.items() if not copy.is_dir()]
            if lacking:
                return lacking
            self.worker = self.make({**self.places, **theirs})
        return self.worker(job)

    def forget(self) -> None:
        """Remove the copies."""
        self.copies.forget()


def _reach(address: str) -> None:
    """Raise `ConfigError` if ``host:port`` does not answer; Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS).close()
        except OSError as error:
            raise ConfigError(f"address: no Ray cluster at {address!r}: {why(error)}") from error


def _fetched(ref: Any) -> bytes:
    import ray

    return bytes(ray.get(ref))


def _same_version(theirs: str) -> None:
    ours = version()
    if theirs != ours:
        raise Q2Error(f"engine 'ray': a node of the cluster has q2 {theirs}, this is {ours}")


def _first_line(error: BaseException) -> str:
    """Return the gist of Ray's errors, which are reports of many lines."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}".rstrip(": ")
