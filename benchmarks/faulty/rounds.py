"""Rounds of kills: a command is killed at random moments, started again, and in the end has lost nothing."""

import os
import random
import shutil
import signal
import time
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.faulty.running import Command, ended, rehearse, start
from benchmarks.faulty.scenarios import Scenario, contents

__all__ = ["Count", "fresh", "killed_rounds", "same", "undisturbed", "was_complete"]

MOST_KILLS = 5


@dataclass
class Count:
    """What came of a scenario's rounds; `late` are kills that came after the end."""

    name: str
    seconds: float = 0.0
    rounds: int = 0
    kills: int = 0
    late: int = 0
    failures: list[str] = field(default_factory=list)


@cache
def undisturbed(scenario: Scenario, folder: Path) -> tuple[dict[str, Any], float]:
    """Run a scenario by itself, after a rehearsal; return what it wrote, and its seconds. Raises AssertionError."""
    folder.mkdir(parents=True, exist_ok=True)
    rehearse(scenario.args(fresh(scenario, folder / "first")), folder)
    place = fresh(scenario, folder / "whole")
    begun = time.monotonic()
    command = start(scenario.args(place), folder / "whole.txt", folder=place)
    code = command.wait()
    assert code == 0, f"undisturbed it ends with {code}: {command.text[-500:]}"
    return contents(place), time.monotonic() - begun


def fresh(scenario: Scenario, place: Path) -> Path:
    """Return a place with nothing but what the scenario needs."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if scenario.prepare:
        scenario.prepare(place)
    return place


def killed_rounds(scenario: Scenario, folder: Path, kills: int, minutes: float, rng: random.Random) -> Count:
    """Run rounds of one scenario until there were so many kills, most come too late, or the time is over."""
    count = Count(scenario.name)
    whole, count.seconds = undisturbed(scenario, folder)
    end = time.monotonic() + 60 * minutes
    while count.kills < kills and count.rounds < 4 * kills and time.monotonic() < end:
        count.rounds += 1
        try:
            _round(scenario, folder, whole, count, rng)
        except AssertionError as error:
            count.failures.append(f"round {count.rounds}: {error}")
        if count.rounds % 10 == 0:
            print(f"{scenario.name}: {count.kills} kills, {len(count.failures)} failures so far", flush=True)
    return count


def _round(scenario: Scenario, folder: Path, whole: dict[str, Any], count: Count, rng: random.Random) -> None:
    place, said = fresh(scenario, folder / "killed"), folder / "killed.txt"
    for _ in range(rng.randint(1, MOST_KILLS)):
        before = complete(place, whole)
        command = start(scenario.args(place), said, folder=place)
        time.sleep(rng.uniform(0, count.seconds))
        done = command.poll()
        if done is not None:
            count.late += 1
            assert done == 0 or was_complete(scenario, command, done), f"it ends with {done}: {command.last}"
            break
        kill(command, scenario)
        count.kills += 1
        after = complete(place, whole)
        assert before <= after, f"lost: {', '.join(sorted(before - after)[:3])}"
    command = start(scenario.args(place), said, folder=place)
    code = command.wait()
    assert code == 0 or was_complete(scenario, command, code), f"started again it ends with {code}: {command.last}"
    assert ended(command.pid, scenario.elsewhere), "a process is left behind at the end"
    same(place, whole)


def same(place: Path, whole: dict[str, Any]) -> str:
    """See that what is in `place` is `whole`, what an undisturbed run writes. Raises AssertionError."""
    found = contents(place)
    different = sorted(name for name in {**whole, **found} if whole.get(name) != found.get(name))
    assert not different, f"not as undisturbed: {', '.join(different[:3])}"
    return "same"


def was_complete(scenario: Scenario, command: Command, code: int) -> bool:
    """Return whether a command that starts from the beginning refused, since its folder was complete before."""
    return code == 2 and not scenario.resumes and "already exists" in command.text


def kill(command: Command, scenario: Scenario) -> None:
    """Kill a command, and see that what it started ends by itself. Raises AssertionError."""
    os.kill(command.pid, signal.SIGKILL)
    os.waitpid(command.pid, 0)
    assert ended(command.pid, scenario.elsewhere), "a process outlives the command that was killed"


def complete(folder: Path, whole: dict[str, Any]) -> set[str]:
    """Return what is there as it is after an undisturbed run: files, and trials."""
    found = contents(folder)
    trials = {f"trial {each}" for each in set(found.pop("trials", [])) & set(whole.get("trials", []))}
    return trials | {name for name, data in found.items() if whole.get(name) == data}
