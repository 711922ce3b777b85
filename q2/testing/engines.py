"""What every engine must do, as tests that its own inherit."""

import os
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from q2.errors import ConfigError
from q2.search.engines.base import Engine, Load, Places
from q2.search.evaluation.jobs import Evaluated
from q2.settings import EngineSettings
from q2.testing import workers
from q2.testing.workers import jobs, made, values

__all__ = ["EngineSuite"]

PATIENCE = 20.0


class EngineSuite:
    """Tests of an engine: a subclass called ``Test…`` sets `engine`, and pytest finds the rest.

    `processes` is false for an engine whose workers are in this very process, which cannot be lost. `local` is false
    where workers may outlive the engine on another machine. An engine that needs an address overrides `settings`.
    """

    engine: ClassVar[type[Engine]]
    processes: ClassVar[bool] = True
    local: ClassVar[bool] = True

    def settings(self, workers: int, retries: int) -> EngineSettings:
        """Return the settings of an engine with so many workers and retries."""
        return EngineSettings(name=self.engine.name, workers=workers, retries=retries)

    def started(
        self,
        scratch: Path,
        *,
        count: int = 2,
        retries: int = 1,
        load: Load | None = None,
        places: Places | None = None,
    ) -> Engine:
        """Return an engine whose workers keep notes in `scratch`."""
        return self.engine(self.settings(count, retries), load or partial(workers.load, scratch), places or {})

    def test_it_says_what_it_is(self) -> None:
        """It has a name and a docstring."""
        assert self.engine.name
        assert self.engine.__doc__

    def test_every_job_is_done_once_by_workers_that_stay(self, tmp_path: Path) -> None:
        """Each job comes once, also in a second run; a worker is made once, and is gone when the engine ends."""
        with self.started(tmp_path) as engine:
            engine.warm()
            found = list(engine.run(jobs(6, job0="sleep 0.3", job1="sleep 0.3")))
            again = list(engine.run(jobs(3)))
            assert engine.workers in (1, 2)
        assert values(found) == {number: number**2 for number in range(6)}
        assert values(again) == {0: 0, 1: 1, 2: 4}
        used = pids([*found, *again])
        assert (os.getpid() in used) != self.processes
        assert made(tmp_path) <= 2
        if self.processes and self.local:
            assert _gone(used)

    def test_results_come_in_the_order_in_which_they_are_done(self, tmp_path: Path) -> None:
        """A slow job keeps no quick one back, and is still there at the end; nothing to do gives nothing."""
        with self.started(tmp_path) as engine:
            assert list(engine.run([])) == []
            _all_there(engine)
            found, count = list(engine.run(jobs(4, job0="sleep 1.5"))), engine.workers
        numbers = [result.trial.number for result in found]
        assert sorted(numbers, key=str) == [0, 1, 2, 3]
        assert numbers == [0, 1, 2, 3] if count == 1 else numbers[-1] == 0

    def test_the_job_of_a_worker_that_is_lost_is_done_again(self, tmp_path: Path) -> None:
        """A worker that is killed once costs no trial."""
        if self.processes:
            with self.started(tmp_path) as engine:
                found = list(engine.run(jobs(4, job1="kill once")))
            assert values(found) == {number: number**2 for number in range(4)}
            assert (tmp_path / "done-1").exists()

    def test_a_job_that_kills_every_worker_becomes_a_failed_trial(self, tmp_path: Path) -> None:
        """After the retries it has failed, with a line that says so; the other jobs are done."""
        if self.processes:
            with self.started(tmp_path, retries=1) as engine:
                found = list(engine.run(jobs(3, job0="kill")))
            (failed,) = (result.trial for result in found if result.trial.state == "failed")
            assert (failed.number, failed.fidelity, failed.metrics) == (0, "weights", {})
            assert failed.error.startswith("the worker died 2 times: ")
            assert "\n" not in failed.error
            assert values(found) == {1: 1, 2: 4}

    @pytest.mark.parametrize("count", [1, 2])
    def test_what_making_a_worker_raises_is_raised_as_it_is(self, tmp_path: Path, count: int) -> None:
        """A mistake of the run file, found where a worker loads, reaches the user in its own words."""
        with (
            self.started(tmp_path, count=count, load=workers.broken) as engine,
            pytest.raises(ConfigError, match=r"^run\.toml: denoiser\.name: no such thing here$"),
        ):
            list(engine.run(jobs(2)))

    def test_workers_read_the_folders_of_the_run(self, tmp_path: Path) -> None:
        """What lies in `places` is there for every worker."""
        (tmp_path / "bank" / "layers").mkdir(parents=True)
        (tmp_path / "bank" / "layers" / "a.txt").write_text("what the bank holds", encoding="utf-8")
        (tmp_path / "shared").mkdir()
        places = {"bank": tmp_path / "bank", "shared": tmp_path / "shared"}
        with self.started(tmp_path, load=workers.reader, places=places) as engine:
            (found,) = engine.run(jobs(1))
            assert Path(found.trial.error.split()[0]).read_text(encoding="utf-8") == "what the bank holds"

    def test_a_search_that_ends_early_leaves_no_worker(self, tmp_path: Path) -> None:
        """Jobs in flight are given up: the engine ends at once, and its processes with it."""
        if self.processes:
            start = time.monotonic()
            with self.started(tmp_path) as engine:
                first = next(iter(engine.run(jobs(3, job1="sleep 60", job2="sleep 60"))))
            assert time.monotonic() - start < 3 * PATIENCE
            if self.local:
                assert _gone(pids([first]))


def pids(found: list[Evaluated]) -> set[int]:
    """Return the processes in which jobs were done."""
    return {int(result.trial.metrics["pid"]) for result in found}


def _all_there(engine: Engine) -> None:
    """Wait until every worker has done a job."""
    deadline, used = time.monotonic() + 3 * PATIENCE, set[int]()
    while len(used) < engine.workers and time.monotonic() < deadline:
        used |= pids(list(engine.run(jobs(2, job0="sleep 0.3", job1="sleep 0.3"))))


def _gone(used: set[int]) -> bool:
    """Return whether all processes end, within a while."""
    deadline = time.monotonic() + PATIENCE
    while any(map(_alive, used)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(_alive, used))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
