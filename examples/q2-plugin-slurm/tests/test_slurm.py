"""The engine keeps to q2's suite with submitit's local executor, and says what is wrong with its parameters."""

import os
from pathlib import Path

import pytest
from q2_plugin_slurm.engine import Slurm

from q2.errors import ConfigError
from q2.plugins import Plugins
from q2.search.kinds import ENGINES
from q2.settings import EngineSettings
from q2.testing import EngineSuite
from q2.testing.workers import broken


class TestSlurm(EngineSuite):
    engine = Slurm

    @pytest.fixture(autouse=True)
    def place(self, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let Slurm's folder be outside the one that tests look at; its jobs find a plugin that is not installed."""
        self.folder = tmp_path_factory.mktemp("slurm")
        found = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(found))

    def settings(self, workers: int, retries: int) -> EngineSettings:
        """Return settings that ask for processes of this machine."""
        address = f"cluster=local,folder={self.folder}"
        return EngineSettings(name="slurm", workers=workers, retries=retries, address=address)

    def test_nothing_is_submitted_before_there_is_work(self, tmp_path: Path) -> None:
        """Making an engine starts nothing."""
        with self.started(tmp_path) as engine:
            engine.warm()
            assert list(engine.run([])) == []
        assert list(tmp_path.iterdir()) == []


def test_parameters_that_there_are_not_are_one_line(tmp_path: Path) -> None:
    for address, words in (("gpu", "expected parameters such as"), ("cluster=moon", "moon"), ("gpus=1", "gpus")):
        text = f"folder={tmp_path},{address}"
        with pytest.raises(ConfigError, match=rf"^search\.engine\.address: .*{words}") as error:
            Slurm(EngineSettings(name="slurm", address=text), broken, {})
        assert "\n" not in str(error.value)


def test_q2_finds_it() -> None:
    assert Plugins(["q2_plugin_slurm"], entry_points=False).of(ENGINES).load("slurm") is Slurm
