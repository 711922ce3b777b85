"""What may befall a search with Ray: nodes that are lost, Ray's client, a cluster that is its own."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.faulty.cluster import cluster
from benchmarks.faulty.rounds import fresh
from benchmarks.faulty.running import Command, descendants, ended, processes, start
from benchmarks.faulty.scenarios import Scenario, contents, searching
from benchmarks.faulty.surroundings import Check
from q2.errors import TrialError
from q2.search.trials.store import TrialStore

__all__ = ["RAY_CHECKS"]

TRIALS = 40
OWN_KILLS = 5
AGENTS = 90
"""Seconds. Two of Ray's agents look for the lost cluster for a minute before they end."""
LONG = ("--trials", "400", "--set", "search.evaluation.inputs=8000")
"""Has a search still be at work when a node has come."""


def node_lost(scenario: Scenario, folder: Path) -> str:
    """A node that is lost in the middle loses no trial, and doubles none."""
    whole = _longer(folder)
    command = _start(scenario, folder)
    _until(lambda: _trials(folder / "odd") >= TRIALS // 4, command)
    cluster().lose()
    try:
        return _ends(command, folder, whole)
    finally:
        cluster().add()


def node_late(scenario: Scenario, folder: Path) -> str:
    """A node that comes in the middle gets trials, which are the same."""
    whole = _longer(folder, *LONG)
    cluster().lose()
    try:
        command = _start(scenario, folder, *LONG)
        _until(lambda: _trials(folder / "odd") >= TRIALS // 4, command)
        assert len(cluster().actors()) == 1, "one node had room for two actors"
    finally:
        cluster().add()
    _until(lambda: len(cluster().actors()) == 2, command)
    return _ends(command, folder, whole)


def client(scenario: Scenario, folder: Path) -> str:
    """Through Ray's client, at ``ray://``, trials are the same."""
    if not cluster().client:
        return "no grpcio"
    whole = _longer(folder)
    return _ends(_start(scenario, folder, address=cluster().client), folder, whole)


def client_killed(scenario: Scenario, folder: Path) -> str:
    """A driver at ``ray://`` that is killed leaves no actor; the search goes on where it was."""
    if not cluster().client:
        return "no grpcio"
    whole = _longer(folder)
    command = _start(scenario, folder, address=cluster().client)
    _until(lambda: _trials(folder / "odd") >= TRIALS // 4, command)
    os.kill(command.pid, signal.SIGKILL)
    os.waitpid(command.pid, 0)
    assert ended(command.pid, cluster().actors, 90), "an actor outlives its driver"
    return _ends(_start(scenario, folder, address=cluster().client), folder, whole)


def own_cluster_killed(scenario: Scenario, folder: Path) -> str:
    """A search that has started a cluster of its own is killed at random moments: no process of Ray's is left."""
    whole, rng = _longer(folder), random.Random(0)
    begun = time.monotonic()
    _ends(_start(scenario, folder, address=""), folder, whole)
    seconds = time.monotonic() - begun
    fresh(scenario, folder / "odd")
    for _ in range(OWN_KILLS):
        command = _start(scenario, folder, address="")
        time.sleep(rng.uniform(0, seconds))
        left = partial(_alive, descendants(command.pid))
        if command.poll() is None:
            os.kill(command.pid, signal.SIGKILL)
            os.waitpid(command.pid, 0)
        assert ended(command.pid, left, AGENTS), "a process of Ray's is left"
    return _ends(_start(scenario, folder, address=""), folder, whole)


RAY_CHECKS: Mapping[str, Check] = {
    "node lost": node_lost,
    "node late": node_late,
    "ray://": client,
    "ray:// killed": client_killed,
    f"own cluster, {OWN_KILLS} kills": own_cluster_killed,
}


def _longer(folder: Path, *more: str) -> dict[str, Any]:
    """Return what a longer search with one worker of its own writes."""
    place = folder / "alone"
    place.mkdir()
    command = start([*searching(place, TRIALS, "workers=1"), *more], folder / "alone.txt", folder=place)
    assert command.wait() == 0, command.last
    return contents(place)


def _start(scenario: Scenario, folder: Path, *more: str, address: str | None = None) -> Command:
    address = cluster().address if address is None else address
    place = folder / "odd"
    if not place.exists():
        fresh(scenario, place)
    args = searching(place, TRIALS, "workers=2", "name=ray", f"address={address}")
    return start([*args, *more], folder / "said.txt", folder=place)


def _ends(command: Command, folder: Path, whole: dict[str, Any]) -> str:
    code = command.wait(300)
    assert code == 0, f"it ends with {code}: {command.text[-300:]}"
    assert ended(command.pid, cluster().actors), "a process is left"
    found = contents(folder / "odd")
    assert found["damaged"] == []
    assert found["trials"] == whole["trials"], f"{len(found['trials'])} trials, not as undisturbed"
    return "same"


def _trials(place: Path) -> int:
    try:
        return len(TrialStore.read(place / "found" / "trials"))
    except TrialError:
        return 0


def _until(holds: Callable[[], bool], command: Command, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert command.poll() is None, f"it ends too early: {command.last}"
        assert time.monotonic() < end, f"nothing happens for {seconds:g} s: {command.last}"
        time.sleep(0.02)


def _alive(started: Sequence[int]) -> list[int]:
    """Return those that have not ended."""
    return [process.pid for process in processes() if process.pid in started]
