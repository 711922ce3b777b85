"""A pass that crashes leaves one small file, and a second command runs it to the same failure."""

import json
import tomllib
from pathlib import Path

import pytest

from q2.config import RunFile
from q2.errors import ConfigError, PassError
from q2.session.reproducer import Reproducer
from q2.session.session import Session
from q2.session.transform import transform
from tests.test_cli import run

CRASHING = '''
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from q2.errors import Q2Error
from q2.passes import AnalysisPass, Report, at_layer
from q2.plugins import hookimpl


@dataclass(frozen=True)
class Crash(AnalysisPass):
    """Crash at a layer, until it is mended."""

    name: ClassVar[str] = "crash"
    requires: ClassVar[tuple[str, ...]] = ("size",)
    layer: str = "proj_out_2"
    mistake: bool = False
    password: str = ""
    file: Path = Path("mended.txt")

    def run(self, graph, ctx):
        if self.file.exists():
            return Report("mended")
        if self.mistake:
            raise Q2Error("the user's own mistake")
        with at_layer(self.layer):
            raise ZeroDivisionError(f"at {Path.cwd()}/secret.txt, {object()}")


@hookimpl
def q2_passes():
    return {"crash": Crash}
'''
PASSES = "size,quantize{by=name,default=none,proj_out_2=uaq-4},crash{layer=proj_out_1}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "crash.py").write_text(CRASHING, encoding="utf-8")
    (tmp_path / "run.toml").write_text(
        'seed = 5\n[denoiser]\nname = "digits-dit"\n[plugins]\nmodules = ["plugins/crash.py"]\n'
        '[search.strategies.optuna]\nstorage = "postgresql://me:hunter2@host/db"\n[samples]\nimages = 3\n',
        encoding="utf-8",
    )
    return tmp_path


def test_a_crash_leaves_a_reproducer_that_a_second_command_runs_to_the_same_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--config", "run.toml", "--passes", PASSES, "--set", "samples.images=0", "--verify-each")
    assert run(monkeypatch, "transform", *given, "--out", "runs/mine") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("q2: pass 4 'crash' failed at 'proj_out_1': ZeroDivisionError: at ")
    assert said[0].endswith("; q2 transform --replay runs/mine-reproducer.toml runs it again")
    file = folder / "runs" / "mine-reproducer.toml"
    assert [each.name for each in (folder / "runs").iterdir()] == [file.name]
    text = file.read_text(encoding="utf-8")
    assert str(folder) not in text
    assert "hunter2" not in text
    table = tomllib.loads(text)
    assert table["passes"] == PASSES.replace("default=none,", "")
    assert table["verify_each"] is True
    assert table["settings"] == {
        "seed": 5, "denoiser": {"name": "digits-dit"}, "plugins": {"modules": ["../plugins/crash.py"]},
    }  # fmt: skip
    assert table["failure"]["where"].startswith("crash, line ")
    assert set(table["versions"]) >= {"python", "q2", "torch", "diffusers"}
    assert table["plugins"]["crash.py"] == "local"

    assert run(monkeypatch, "transform", "--replay", "runs/mine-reproducer.toml") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("q2: pass 4 'crash' failed at 'proj_out_1': ZeroDivisionError: ")
    assert line.endswith("; the failure of runs/mine-reproducer.toml")
    assert len(list((folder / "runs").iterdir())) == 1

    changed = text.replace('layer = "proj_out_1"', 'layer = "proj_out_2"')
    (folder / "other.toml").write_text(changed, encoding="utf-8")
    assert run(monkeypatch, "transform", "--replay", "other.toml", "-q") == 2  # its plugin is not there
    assert "crash.py" in capsys.readouterr().err
    (folder / "runs" / "other.toml").write_text(changed, encoding="utf-8")
    assert run(monkeypatch, "transform", "--replay", "runs/other.toml", "-q") == 1
    assert "; not the failure of runs/other.toml, which is: ZeroDivisionError: at secret.txt" in capsys.readouterr().err

    (folder / "mended.txt").write_text("", encoding="utf-8")
    assert run(monkeypatch, "transform", "--replay", "runs/mine-reproducer.toml", "-q") == 0
    assert capsys.readouterr().out.startswith("nothing failed; runs/mine-reproducer.toml has pass 4 'crash': ZeroDiv")


def test_a_users_mistake_leaves_none_and_nothing_is_written_without_a_folder(folder: Path) -> None:
    settings = {"denoiser.weights": "meta", "samples.images": 0, "passes.crash.mistake": True}
    with pytest.raises(PassError) as caught:
        transform(Session(RunFile.load("run.toml", settings)), folder / "out")
    assert not caught.value.is_crash
    with pytest.raises(PassError, match="ZeroDivisionError") as caught:
        transform(Session(RunFile.load("run.toml", settings | {"passes.crash.mistake": False})), None)
    assert caught.value.is_crash
    assert "replay" not in str(caught.value)
    assert not list(folder.glob("*reproducer*"))


def test_settings_that_look_like_secrets_are_left_out_by_name(folder: Path) -> None:
    given = {"denoiser.weights": "meta", "samples.images": 0, "passes.crash.password": "hunter2"}
    given |= {"denoiser.arguments": {"api_token": "hunter2", "max_tokens": 3, "proxy": "http://me:hunter2@host"}}
    session = Session(RunFile.load("run.toml", given | {"passes.crash.layer": "x_embedder"}))
    with pytest.raises(PassError):
        transform(session, folder / "out")
    found = Reproducer.load(folder / "out-reproducer.toml")
    left_out = ("denoiser.arguments.api_token", "denoiser.arguments.proxy", "passes.crash.password")
    assert found.left_out == left_out
    assert found.settings["denoiser"]["arguments"] == {"max_tokens": 3}
    assert found.passes == "crash{layer=x_embedder}"
    assert "hunter2" not in (folder / "out-reproducer.toml").read_text(encoding="utf-8")
    assert found.run_file(folder / "out-reproducer.toml").settings.denoiser.weights == "meta"


def test_a_module_leaves_one_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "module.toml").write_text(
        '[model]\nname = "jsc-tiny"\n[data]\narguments = { samples = 300 }\n[plugins]\nmodules = ["plugins/crash.py"]\n'
        "[passes.crash]\n",
        encoding="utf-8",
    )
    assert run(monkeypatch, "transform", "--config", "module.toml", "--out", "mod") == 1
    capsys.readouterr()
    assert run(monkeypatch, "transform", "--replay", "mod-reproducer.toml", "--timing") == 1
    assert capsys.readouterr().err.endswith("; the failure of mod-reproducer.toml\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 2\npasses = 'size'", "is no reproducer of this version of q2"),
        ("[denoiser]\nname = 'dit'", "is no reproducer of this version of q2"),
        ("format = 1\npasses = 'size'\nrun = 'a'\n[failure]\ntitle = 'size'", "failure.number: "),
        ("format = 1", "is no reproducer of this version of q2"),
        ("format =", "not valid TOML: "),
    ],
)
def test_a_file_that_is_no_reproducer_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Reproducer.load(tmp_path / "file.toml")
    assert str(caught.value).startswith(f"--replay {tmp_path / 'file.toml'}: {message}")


@pytest.mark.parametrize("option", [("--passes", "size"), ("--config", "dit.toml"), ("--out", "x"), ("--save", "x")])
def test_a_replay_takes_no_option_that_its_file_says(
    option: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "transform", "--replay", "nowhere.toml", *option) == 2
    assert f"leave out {option[0]}" in capsys.readouterr().err


def test_a_transform_is_watched_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    meta = ("--set", "denoiser.weights=meta", "--set", "samples.images=0", "--passes", "size,quantize{default=uaq-4}")
    assert run(monkeypatch, "transform", *meta, "--out", "a", "--print-ir-after", "quantise") == 2
    assert "no pass of the run goes by that name; did you mean 'quantize'?" in capsys.readouterr().err
    assert run(monkeypatch, "transform", *meta, "--out", "a", "--print-ir-after", "all", "--json") == 2
    capsys.readouterr()
    watched = ("--print-ir-after", "quantize", "--dump", "graphs", "--timing", "-q")
    assert run(monkeypatch, "transform", *meta, "--out", "a", *watched) == 0
    said = capsys.readouterr().out
    assert said.startswith("# after pass 2, quantize: quantize{default=uaq-4}\n")
    assert "%proj_out_2 = linear(" in said
    assert "\n├─ passes" in said
    assert "\n│  ├─ size" in said
    assert len(list((tmp_path / "graphs").iterdir())) == 4
    report = json.loads((tmp_path / "a" / "report.json").read_text(encoding="utf-8"))
    assert report["pass_pipeline"] == "size,quantize{default=uaq-4}"
    assert [part["title"] for part in report["timing"]["tree"]["parts"]][-2:] == ["passes", "everything else"]
    effective = (tmp_path / "a" / "effective.toml").read_text(encoding="utf-8")
    assert effective.startswith("# the passes as text: --passes 'size,quantize{default=uaq-4}'\n\n")
    assert tomllib.loads(effective)["passes"]["quantize"]["default"] == "uaq-4"
    assert run(monkeypatch, "transform", *meta, "--out", "a", "--dump", "graphs") == 2
    assert "expected a folder that is empty" in capsys.readouterr().err
