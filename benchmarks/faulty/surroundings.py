"""Odd surroundings: a signal, a full disk, a closed pipe, another locale, folders that cannot be written to."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

from benchmarks.faulty.rounds import fresh, same, undisturbed, was_complete
from benchmarks.faulty.running import Command, ended, start
from benchmarks.faulty.scenarios import ON_RAY, Scenario

__all__ = ["CHECKS", "Check", "again", "same"]

Check = Callable[[Scenario, Path], str]
"""Runs a scenario in a folder of its own, and says what came of it. Raises AssertionError."""
DAY = 86_400


def terminated(scenario: Scenario, folder: Path) -> str:
    """SIGTERM in the middle leaves nothing behind, and a second start ends as an undisturbed one."""
    whole, seconds = undisturbed(scenario, folder.parent / scenario.name)
    place, command, _ = _signalled(scenario, folder, seconds, lambda pid: os.kill(pid, signal.SIGTERM))
    assert ended(command.pid, scenario.elsewhere), "a process is left"
    return again(scenario, place, whole)


def interrupted(scenario: Scenario, folder: Path) -> str:
    """Ctrl-C, which all of its processes get, ends it with 130; a second start ends as an undisturbed one."""
    whole, seconds = undisturbed(scenario, folder.parent / scenario.name)
    place, command, code = _signalled(scenario, folder, seconds, lambda pid: os.killpg(pid, signal.SIGINT))
    assert code == 130, f"it ends with {code}: {command.text[-300:]}"
    assert "Traceback" not in command.text, command.text[-500:]
    assert ended(command.pid, scenario.elsewhere), "a process is left"
    return again(scenario, place, whole)


def _signalled(
    scenario: Scenario, folder: Path, seconds: float, send: Callable[[int], None]
) -> tuple[Path, Command, int]:
    """Start it and send it a signal in the middle, sooner if it has ended by then; return where it was and its code."""
    for attempt in range(1, 6):
        place = fresh(scenario, folder / "stopped")
        command = start(scenario.args(place), folder / "said.txt", folder=place)
        time.sleep(seconds / 2**attempt)
        if command.poll() is None:
            send(command.pid)
            if code := command.wait(60):
                return place, command, code
    raise AssertionError("it always ends before the signal")


def full_disk(scenario: Scenario, folder: Path) -> str:
    """On a disk that is full it ends with one line; with room again it ends as an undisturbed one."""
    whole, _ = undisturbed(scenario, folder.parent / scenario.name)
    try:
        with small_disk(folder / "disk") as place:
            if scenario.prepare:
                scenario.prepare(place)
            filler = place / "filler"
            room = shutil.disk_usage(place).free
            filler.write_bytes(bytes(max(0, room)))
            command = start(scenario.args(place), folder / "said.txt", folder=folder)
            _one_line(command, command.wait(), "No space left")
            filler.unlink()
            return again(scenario, place, whole, disk=True)
    except subprocess.CalledProcessError:
        return "no mount"


def read_only(scenario: Scenario, folder: Path) -> str:
    """In a folder that cannot be written to it ends with one line."""
    try:
        with small_disk(folder / "disk") as place:
            if scenario.prepare:
                scenario.prepare(place)
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True, capture_output=True)
            command = start(scenario.args(place), folder / "said.txt", folder=folder)
            _one_line(command, command.wait(), "")
    except subprocess.CalledProcessError:
        return "no mount"
    return "one line"


def homeless(scenario: Scenario, folder: Path) -> str:
    """Without a home that can be written to it runs as ever."""
    (folder / "home").touch()  # a file: nothing can be made below it
    nowhere = str(folder / "home")
    names = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")
    return _ends(scenario, folder, environment=dict.fromkeys(names, nowhere))


def plain_locale(scenario: Scenario, folder: Path) -> str:
    """With ``LC_ALL=C`` it runs as ever; standard output takes ASCII alone."""

    def ascii_only() -> None:
        import sys

        sys.stdout.reconfigure(encoding="ascii", errors="backslashreplace")  # type: ignore[union-attr]

    return _ends(scenario, folder, environment={"LC_ALL": "C", "PYTHONUTF8": "0"}, before=ascii_only)


def closed_output(scenario: Scenario, folder: Path) -> str:
    """With a standard output that nobody reads any more, it still writes its result, and no traceback."""

    def closed() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, 1)

    whole, _ = undisturbed(scenario, folder.parent / scenario.name)
    place = fresh(scenario, folder / "odd")
    command = start(scenario.args(place), folder / "said.txt", before=closed, folder=place)
    command.wait()
    assert "Traceback" not in command.text, command.text[-500:]
    assert ended(command.pid, scenario.elsewhere), "a process is left"
    return again(scenario, place, whole)


def together(scenario: Scenario, folder: Path) -> str:
    """Two at once in one folder: both end, or the second is refused in one line, and the result is whole."""
    whole, _ = undisturbed(scenario, folder.parent / scenario.name)
    place = fresh(scenario, folder / "both")
    both = [start(scenario.args(place), folder / f"{i}.txt", folder=place) for i in range(2)]
    codes = [command.wait() for command in both]
    assert 0 in codes, [command.last for command in both]
    assert all(code in (0, 2) for code in codes), [command.text[-300:] for command in both]
    return same(place, whole)


def stepping_clock(scenario: Scenario, folder: Path) -> str:
    """With a clock that jumps by up to a day whenever it is read, and files of any age, it runs as ever."""
    whole, _ = undisturbed(scenario, folder.parent / scenario.name)
    place, rng = fresh(scenario, folder / "odd"), random.Random(0)
    command = start(scenario.args(place), folder / "said.txt", folder=place, before=_step_clock)
    while (code := command.poll()) is None:
        for file in place.rglob("*"):
            with suppress(OSError):  # it has another name by now
                os.utime(file, (when := time.time() + rng.uniform(-DAY, DAY), when))
        time.sleep(0.05)
    if scenario.name == ON_RAY and code:  # Ray itself gives up its connection by such a clock
        _one_line(command, code, "no Ray cluster at")
        return "one line"
    assert code == 0, f"it ends with {code}: {command.text[-300:]}"
    return same(place, whole)


def _step_clock() -> None:
    """Have Python's wall clock jump in this process, for all that read it by `time` or `datetime`."""
    rng, now, now_ns = random.Random(1), time.time, time.time_ns

    class Stepping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stepping":
            return super().now(tz) + timedelta(seconds=rng.uniform(-DAY, DAY))

    time.time = lambda: now() + rng.uniform(-DAY, DAY)
    time.time_ns = lambda: now_ns() + rng.randint(-DAY, DAY) * 10**9
    for name, module in list(sys.modules.items()):
        if name.startswith("q2.") and vars(module).get("datetime") is datetime:
            vars(module)["datetime"] = Stepping


CHECKS: Mapping[str, Check] = {
    "SIGTERM": terminated,
    "Ctrl-C": interrupted,
    "full disk": full_disk,
    "read-only": read_only,
    "no home": homeless,
    "LC_ALL=C": plain_locale,
    "closed stdout": closed_output,
    "two at once": together,
    "clock steps": stepping_clock,
}


@contextmanager
def small_disk(place: Path, size: str = "4m") -> Iterator[Path]:
    """Yield a tmpfs of some size. Raises `subprocess.CalledProcessError` where none can be mounted."""
    place.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True)


def _one_line(command: Command, code: int, expected: str) -> None:
    lines = command.text.strip().splitlines()
    said = [line for line in lines if line.startswith("q2: ")]
    assert code == 2, f"it ends with {code}: {lines[-3:]}"
    assert len(said) == 1, lines[-3:]
    assert expected in said[0], said[0]


def _ends(scenario: Scenario, folder: Path, **how: Any) -> str:
    whole, _ = undisturbed(scenario, folder.parent / scenario.name)
    place = fresh(scenario, folder / "odd")
    command = start(scenario.args(place), folder / "said.txt", folder=place, **how)
    code = command.wait()
    assert code == 0, f"it ends with {code}: {command.text[-300:]}"
    return same(place, whole)


def again(scenario: Scenario, place: Path, whole: dict[str, Any], *, disk: bool = False) -> str:
    """Start it once more; its result is as that of an undisturbed run, `whole`."""
    said = place.parent / "again.txt"
    command = start(scenario.args(place), said, folder=place.parent if disk else place)
    code = command.wait()
    assert code == 0 or was_complete(scenario, command, code), f"started again it ends with {code}: {command.last}"
    return same(place, whole)
