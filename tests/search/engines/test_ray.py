"""The Ray engine, on a real cluster of three nodes on this machine, one of which is lost."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from q2.config import RunFile
from q2.errors import ConfigError, Q2Error
from q2.progress import Progress, silent
from q2.search.engines.base import Load, Places
from q2.search.engines.ray import Ray
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from q2.session.search import search
from q2.session.session import Session
from q2.settings import EngineSettings
from q2.testing import EngineSuite, workers
from q2.testing.workers import jobs, made, values

T = TypeVar("T")
CHEAP = ("search.strategy=random", "search.evaluation.fidelity=weights", "search.target=-quantized_error - avg_bits")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray keeps pipes of its processes open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three nodes with one core each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_worker_niceness", "0")  # else other programs on this machine come first
        from ray.cluster_utils import Cluster

        node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80_000_000}
        found = Cluster(initialize_head=True, head_node_args=node)
        for _ in range(2):
            found.add_node(**node)
        yield found
        found.shutdown()


def engine(cluster: Any, load: Load, places: Places | None = None, **more: Any) -> Ray:
    return Ray(EngineSettings(name="ray", address=cluster.address, **more), load, places or {})


def test_every_job_is_done_once_and_the_cluster_is_left_as_it_was(tmp_path: Path, cluster: Any) -> None:
    import ray

    with engine(cluster, partial(workers.load, tmp_path), retries=1) as ray_engine:
        assert ray_engine.workers == 3
        found = list(ray_engine.run(jobs(5, job0="sleep 0.5")))
        again = list(ray_engine.run(jobs(1)))
    assert values(found) == {number: number**2 for number in range(5)}
    assert {result.trial.metrics["threads"] for result in found if result.trial.metrics} == {1.0}
    assert again[0].trial.metrics["pid"] != os.getpid()
    assert not ray.is_initialized()
    ray.init(address=cluster.address, log_to_driver=False)
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == 3
    ray.shutdown()


def test_a_folder_that_a_node_does_not_have_is_copied_to_it(tmp_path: Path, cluster: Any) -> None:
    (tmp_path / "bank" / "layers").mkdir(parents=True)
    (tmp_path / "bank" / "layers" / "a.txt").write_text("what the bank holds", encoding="utf-8")
    (tmp_path / "shared").mkdir()
    handle = os.open(tmp_path, os.O_RDONLY)
    mine = Path(f"/proc/self/fd/{handle}/bank")  # there in this process, and in no other
    assert mine.is_dir()
    try:
        places = {"bank": mine, "shared": tmp_path / "shared"}
        with engine(cluster, workers.reader, places, workers=2) as ray_engine:
            found = list(ray_engine.run(jobs(2)))
            ((copies, shared),) = {tuple(result.trial.error.split()) for result in found}
            assert Path(copies).read_text(encoding="utf-8") == "what the bank holds"
            assert not copies.startswith(str(mine))
            assert shared == str(tmp_path / "shared")
    finally:
        os.close(handle)
    assert not Path(copies).exists()


def test_a_node_that_is_lost_loses_no_job_and_doubles_none(tmp_path: Path, cluster: Any) -> None:
    with engine(cluster, partial(workers.load, tmp_path)) as ray_engine:
        used: set[float] = set()
        deadline = time.monotonic() + 90
        while len(used) < 3 and time.monotonic() < deadline:  # until all are there
            tried = ray_engine.run(jobs(3, job0="sleep 0.3", job1="sleep 0.3", job2="sleep 0.3"))
            used |= {result.trial.metrics["pid"] for result in tried}
        assert len(used) == made(tmp_path) == 3
        running = ray_engine.run(jobs(9, **{f"job{number}": "sleep 1" for number in range(9)}))
        found = [next(running)]  # the others are at work
        lost = threading.Thread(target=cluster.remove_node, args=(cluster.worker_nodes.copy().pop(),))
        lost.start()
        found += running
        lost.join()
    assert values(found) == {number: number**2 for number in range(9)}
    assert {result.trial.metrics["pid"] for result in found} <= used


def test_a_node_that_comes_late_gets_jobs(tmp_path: Path, cluster: Any) -> None:
    with engine(cluster, partial(workers.load, tmp_path)) as ray_engine:
        there = ray_engine.workers
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
        used: set[float] = set()
        deadline = time.monotonic() + 90
        while len(used) <= there and time.monotonic() < deadline:
            found = list(ray_engine.run(jobs(6, **{f"job{number}": "sleep 0.3" for number in range(6)})))
            assert values(found) == {number: number**2 for number in range(6)}
            used |= {result.trial.metrics["pid"] for result in found}
        assert ray_engine.workers == len(used) == there + 1


def test_a_real_search_that_loses_a_node_finds_what_the_local_engine_finds(
    tmp_path: Path, cluster: Any, one_option_bank: Path
) -> None:
    import ray

    def start(name: str, count: int, progress: Progress = silent) -> list[Trial]:
        table = [f"bank.path={one_option_bank}", 'search.options=["uaq-4", "none"]', "search.trials=12", *CHEAP]
        table += [f"search.engine.name={name}", f"search.engine.workers={count}"]
        table += [f"search.engine.address={cluster.address}", "search.baselines=off"]
        outcome = search(Session(RunFile.load("digits-dit.toml", table), progress), tmp_path / name)
        assert outcome.times["workers"] == count
        trials = sorted(TrialStore.read(tmp_path / name / "trials"), key=lambda trial: trial.number or 0)
        return [replace(trial, seconds=0.0) for trial in trials]

    def losing(
        items: Iterable[T], label: str, total: int | None = None, note: Callable[[Any], str] | None = None
    ) -> Iterator[T]:
        for number, item in enumerate(items):
            if (label, number) == ("random", 2):
                assert sum(node["Alive"] for node in ray.nodes()) == 3
                cluster.remove_node(cluster.worker_nodes.copy().pop())
            yield item

    found = start("ray", 3, losing)
    assert [trial.number for trial in found] == list(range(12))
    assert {trial.state for trial in found} == {"complete"}
    assert found == start("local", 1)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_a_cluster_that_is_not_there_is_one_line(address: str) -> None:
    with (
        Ray(EngineSettings(name="ray", address=address), workers.broken, {}) as ray_engine,
        pytest.raises(Q2Error, match=f"^address: no Ray cluster at '{address}': Connection refused$"),
    ):
        ray_engine.warm()


def test_without_ray_the_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="^the engine .ray. needs Ray: pip install ray$"):
        Ray(EngineSettings(name="ray"), workers.broken, {})


class TestRay(EngineSuite):
    engine = Ray
    address: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _join(self, cluster: Any) -> None:
        type(self).address = cluster.address

    def settings(self, workers: int, retries: int) -> EngineSettings:
        return EngineSettings(name="ray", address=self.address, workers=workers, retries=retries)
