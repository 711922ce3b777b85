"""A trial store with several writers: nothing that was acknowledged is lost or doubled, whoever writes or dies."""

import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from q2.search.trials.store import TrialStore
from tests.search.trials.stores import RUN, trial

WRITER = """
import json, sys
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
path, first, last, layers = sys.argv[1], *map(int, sys.argv[2:])
store = TrialStore.open(path, Fingerprint("digits-dit", "0a1b", "0.1.0", {"images": 200, "sampler": {"steps": 8}}))
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, last):
    recipe = {f"blocks.{layer}.to_q": f"uaq-{1 + (number >> layer % 20) % 2}" for layer in range(layers)}
    store.add(Trial(recipe, {"FID": number / 3}, number=number, seed=number))
    print(number, flush=True)
"""


def writer(path: Path, first: int, last: int, layers: int = 20) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(last), str(layers)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_processes_that_write_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    processes = [writer(path, 60 * index, 60 * index + 120) for index in range(3)]
    assert [said(process) for process in processes] == ["ready"] * 3
    for process in processes:
        start(process)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = TrialStore.open(path, RUN)
    assert [found.number for found in store] == list(range(240))
    assert len(store) == 240
    assert store.damaged == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["trials"]


FORKS = """
import os, sys
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
store = TrialStore.read(sys.argv[1])
store.add(Trial({"a": "uaq-1"}, number=0))
child = os.fork()
for number in range(1, 40):
    store.add(Trial({"a": "uaq-1"}, seed=number + 1000 * (child == 0), number=number))
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_child_writes_a_segment_of_its_own(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    subprocess.run([sys.executable, "-c", FORKS, str(store.path)], timeout=60, check=True)
    assert store.refresh() == 79
    assert store.damaged == []
    assert len(list(store.path.glob("*.jsonl"))) == 2


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    dice = random.Random(1)
    acknowledged: set[int] = set()
    for turn in range(4):
        process = writer(path, turn * 100_000, (turn + 1) * 100_000, layers=4000)
        assert said(process) == "ready"
        start(process)
        acknowledged |= {int(said(process)) for _ in range(dice.randrange(1, 6))}
        time.sleep(dice.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        acknowledged |= {int(line) for line in rest.split("\n")[:-1]}
    store = TrialStore.open(path, RUN)
    numbers = {found.number for found in store}
    assert acknowledged <= numbers
    assert len(numbers) <= len(acknowledged) + 4
    assert store.damaged == []
    assert store.add(trial(0))
    assert len(TrialStore.read(path)) == len(numbers) + 1


def test_of_two_processes_that_make_a_store_the_second_finds_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(beside: Path, path: Path) -> Path:
        if not path.exists():
            shutil.copytree(beside, path)  # another was quicker
        return rename(beside, path)

    monkeypatch.setattr(Path, "rename", late)
    assert TrialStore.open(tmp_path / "trials", RUN).add(trial(0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["trials"]


def test_a_store_travels_to_a_worker_as_its_path(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.add(trial(0))
    there = pickle.loads(pickle.dumps(store))
    there.add(trial(1))
    assert store.refresh() == 1
    assert len(list((tmp_path / "trials").glob("*.jsonl"))) == 2


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda index: store.add(trial(index % 50)), range(200)))
    assert sum(added) == 50
    assert [found.number for found in TrialStore.read(store.path)] == list(range(50))
