"""The local engine: every job once, whatever happens to the processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from benchmarks.faulty.running import children
from q2.config import RunFile
from q2.search.engines.base import Load, Make
from q2.search.engines.local import Local
from q2.search.evaluation.jobs import Evaluated
from q2.session.evaluation import Loader
from q2.session.modules.trials import ModuleLoader
from q2.settings import EngineSettings
from q2.testing import EngineSuite, workers
from q2.testing.workers import jobs, made, values

SEARCH = """
import sys, time
from pathlib import Path
from q2.search.engines.local import Local
from q2.settings import EngineSettings
from q2.testing import workers
scratch, seconds = Path(sys.argv[1]), float(sys.argv[2])
with Local(EngineSettings(workers=2), workers.Prepared(scratch, seconds), {}) as engine:
    engine.prepare()
    engine.warm()
    print("warm", flush=True)
    next(engine.run(workers.jobs(2, job1="sleep 300")))
    print("measured", flush=True)
    time.sleep(300)
"""


@contextmanager
def local(scratch: Path, count: int, *, retries: int = 2, load: Load | None = None) -> Iterator[Local]:
    with Local(EngineSettings(workers=count, retries=retries), load or partial(workers.load, scratch), {}) as engine:
        yield engine


def alive(pid: float) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def stat(pid: float) -> list[str]:
    """Return state, parent, group, session, … of a process; nothing if there is none."""
    try:
        return Path(f"/proc/{int(pid)}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def running(pid: float) -> bool:
    """Say whether a process has not ended; one whose parent is lost may stay in the table, where nobody asks for it."""
    return stat(pid)[:1] not in ([], ["Z"])


def pids(found: list[Evaluated]) -> set[float]:
    return {result.trial.metrics["pid"] for result in found}


class TestLocal(EngineSuite):
    engine = Local


def test_one_worker_works_in_this_very_process_and_is_made_once(tmp_path: Path) -> None:
    with local(tmp_path, 1) as engine:
        engine.warm()
        found = [*engine.run(jobs(3)), *engine.run(jobs(2))]
        assert engine.workers == 1
    assert [result.trial.number for result in found] == [0, 1, 2, 0, 1]
    assert pids(found) == {os.getpid()}
    assert found[0].spent == {"score": 0.5}
    assert made(tmp_path) == 1


def test_a_worker_stays_that_grows_as_it_loads_a_denoiser(tmp_path: Path) -> None:
    with local(tmp_path, 2) as engine:
        first = pids(list(engine.run(jobs(2, job0="sleep 1.1", job1="sleep 1.1"))))
        grown = list(engine.run(jobs(4, job0="hold 400", job1="hold 400", job2="sleep 1.1", job3="sleep 1.1")))
        assert pids(grown) == first
        assert pids(list(engine.run(jobs(2)))) <= first
    assert made(tmp_path) == 2


def test_a_job_that_kills_every_worker_becomes_a_failed_trial_after_the_retries(tmp_path: Path) -> None:
    with local(tmp_path, 2, retries=1) as engine:
        found = list(engine.run(jobs(3, job0="kill")))
    (failed,) = (result.trial for result in found if result.trial.state == "failed")
    assert (failed.number, failed.fidelity, failed.metrics) == (0, "weights", {})
    assert failed.error == "the worker died 2 times: ended by SIGKILL"
    assert values(found) == {1: 1, 2: 4}


def test_a_worker_that_dies_while_it_is_idle_is_started_again(tmp_path: Path) -> None:
    with local(tmp_path, 2) as engine:
        used = pids(list(engine.run(jobs(2, job0="sleep 1"))))
        for pid in used:
            os.kill(int(pid), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(map(alive, used)) and time.monotonic() < deadline:
            time.sleep(0.05)
        found = list(engine.run(jobs(2)))
    assert values(found) == {0: 0, 1: 1}
    assert not pids(found) & used


def test_what_workers_need_is_imported_once_and_they_are_forked(tmp_path: Path) -> None:
    with local(tmp_path, 2, load=workers.Prepared(tmp_path)) as engine:
        engine.prepare()
        engine.warm()
        found = list(engine.run(jobs(2, job0="sleep 1", job1="sleep 1")))
    (server,) = {result.trial.metrics["parent"] for result in found}
    assert server != os.getpid()
    assert len(pids(found)) == 2
    assert len(list(tmp_path.glob("prepared-*"))) == 1
    assert not alive(server)


def test_a_search_goes_on_when_the_process_that_workers_are_forked_from_is_lost(tmp_path: Path) -> None:
    with local(tmp_path, 2) as engine:
        found = list(engine.run(jobs(2, job0="sleep 1", job1="sleep 1")))
        (server,) = {result.trial.metrics["parent"] for result in found}
        os.kill(int(server), signal.SIGKILL)
        assert values(list(engine.run(jobs(2)))) == {0: 0, 1: 1}
        os.kill(int(found[0].trial.metrics["pid"]), signal.SIGKILL)
        again = list(engine.run(jobs(4, job0="sleep 1", job1="sleep 1")))
        assert values(again) == {number: number**2 for number in range(4)}
    assert not any(map(running, pids(found) | pids(again) | {server}))


def test_workers_that_are_not_forked_measure_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("q2.search.engines.local.sys.platform", "darwin")
    with local(tmp_path, 2, load=workers.Prepared(tmp_path)) as engine:
        engine.warm()
        found = list(engine.run(jobs(4, job1="kill once")))
        assert {result.trial.metrics["parent"] for result in found} == {os.getpid()}
    assert values(found) == {number: number**2 for number in range(4)}
    assert not any(map(alive, pids(found)))


@dataclass(frozen=True)
class On:
    """Loads nothing, onto a device."""

    scratch: Path
    device: str

    def __call__(self) -> Make:
        return workers.load(self.scratch)


@pytest.mark.parametrize(
    ("device", "count", "forks", "seen"),
    [("auto", 3, False, "2"), ("cuda", 3, False, "2"), ("cpu", 4, True, None), ("cuda:1", 1, False, None)],
)
def test_gpus_are_workers_where_the_denoiser_is_on_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, device: str, count: int, forks: bool, seen: str | None
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("q2.search.engines.local.os.cpu_count", lambda: 8)
    monkeypatch.setattr("q2.search.engines.local.sys.platform", "linux")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    environments: list[dict[str, str]] = []
    monkeypatch.setattr("q2.search.engines.local.Server", lambda *_, env, forks: environments.append(env))
    engine = Local(EngineSettings(), On(tmp_path, device), {})
    assert engine.workers == count
    assert engine._forks is forks
    engine._server(0 if forks or count == 1 else 2)
    assert environments[0].get("CUDA_VISIBLE_DEVICES") == seen


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda:1"])
def test_what_loads_a_denoiser_says_on_which_device(device: str) -> None:
    run = RunFile.load("digits-dit.toml", [f"denoiser.device='{device}'"])
    assert Local(EngineSettings(workers=1), Loader(run), {}).device == device
    module = RunFile.load("jsc-tiny-search.toml", [f"model.device='{device}'"])
    assert Local(EngineSettings(workers=1), ModuleLoader(module), {}).device == device


def becomes(session: int, count: int) -> bool:
    """Say whether a session has so many processes within half a minute."""
    deadline = time.monotonic() + 30
    while (there := len(children(session))) != count and time.monotonic() < deadline:
        time.sleep(0.02)
    return there == count


@pytest.mark.parametrize(
    ("seconds", "says", "end"),
    [
        (0, "measured", signal.SIGKILL),
        (60, "warm", signal.SIGKILL),  # while it imports
        (0, "measured", signal.SIGINT),
        (0, "measured", signal.SIGTERM),
    ],
)
def test_a_search_that_is_killed_or_interrupted_leaves_no_process(
    tmp_path: Path, seconds: int, says: str, end: signal.Signals
) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SEARCH, str(tmp_path), str(seconds)]
    with (
        (tmp_path / "stderr").open("w") as stderr,
        subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            while process.stdout.readline().strip() != says:
                assert process.poll() is None
            assert becomes(process.pid, 4 if says == "measured" else 2)  # a worker may still be forked
            if end == signal.SIGINT:  # Ctrl-C goes to all processes of the terminal
                os.killpg(process.pid, end)
            else:
                process.send_signal(end)
            process.wait(timeout=60)
            assert becomes(process.pid, 0)
        finally:
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
    said = (tmp_path / "stderr").read_text()
    assert said.count("Traceback") == said.count("KeyboardInterrupt") == (end == signal.SIGINT)
