"""The local engine: every job once, whatever happens to the processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from q2.search.engines.base import Load
from q2.search.engines.local import Local
from q2.search.evaluation.jobs import Evaluated
from q2.settings import EngineSettings
from q2.testing import EngineSuite, workers
from q2.testing.workers import jobs, made, values

KILLED = """
import sys, time
from functools import partial
from pathlib import Path
from q2.search.engines.local import Local
from q2.settings import EngineSettings
from q2.testing import workers
with Local(EngineSettings(workers=2), partial(workers.load, Path(sys.argv[1])), {}) as engine:
    print(int(next(engine.run(workers.jobs(2))).trial.metrics["pid"]), flush=True)
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


def test_the_processes_of_a_search_that_is_killed_end_with_it(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert alive(worker)
        process.kill()
    deadline = time.monotonic() + 30
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(worker)
