"""Commands on run files about modules: transform, train, search, and the import of MASE's files."""

from pathlib import Path

import pytest

from q2.config import RunFile
from tests.compat.test_mase import LAB_2
from tests.test_cli import run

SMALL = ("--set", "data.arguments.samples=2000")


def test_transform_prints_the_documents_tables_and_saves_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "saved"
    args = ("--config", "jsc-tiny.toml", *SMALL, "--out", str(tmp_path / "out"), "--save", str(saved))
    assert run(monkeypatch, "transform", *args) == 0
    said = capsys.readouterr().out
    for line in (
        "Original type    OP              Total    Changed    Unchanged",
        "setting",
        "accuracy 0.",
        "8 bits a weight, 8 a bias, 8 an input",
        "80 FLOPs, 5120 BitOPs in layers and products",
    ):
        assert line in said
    assert {file.name for file in saved.iterdir()} == {"graph.json", "model.safetensors"}
    (tmp_path / "run.toml").write_text(f'[model]\nsaved = "{saved}"\n[passes.avg-bits]\n')
    assert run(monkeypatch, "transform", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "two")) == 0
    assert "8 bits a weight" in capsys.readouterr().out


def test_train_then_transform_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ("--set", "model.weights=random", "--set", "train.epochs=1", *SMALL, "--out", str(out))
    assert run(monkeypatch, "train", "--config", "jsc-tiny.toml", *args) == 0
    said = capsys.readouterr().out
    assert "epoch 1" in said
    assert f"--set model.weights={out / 'model.safetensors'}" in said


def test_search_prints_every_trial_and_a_dry_run_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--config", "jsc-tiny-search.toml", "--set", "search.engine.workers=1", *SMALL)
    assert run(monkeypatch, "search", *args, "--dry-run") == 0
    assert "4^2 recipes, 16" in capsys.readouterr().out
    assert run(monkeypatch, "search", *args, "--out", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "16 trials, 16 measured now" in said
    assert "← best" in said


def test_a_run_file_of_mases_is_imported_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "jsc.toml").write_text(LAB_2)
    assert run(monkeypatch, "import", "mase", str(tmp_path / "jsc.toml")) == 0
    said = capsys.readouterr().out
    assert "no counterpart: --out names the folder of a run" in said
    place = tmp_path / "jsc.q2.toml"
    assert RunFile.load(str(place)).settings.search.trials == 20
    assert run(monkeypatch, "import", "mase", str(tmp_path / "jsc.toml")) == 2
    assert "already exists" in capsys.readouterr().err
    assert run(monkeypatch, "transform", "--config", str(place), *SMALL, "--out", str(tmp_path / "out")) == 0
    assert "number formats in 3 layers" in capsys.readouterr().out
    few = ("--set", "search.trials=3", *SMALL, "--out", str(tmp_path / "search"))
    assert run(monkeypatch, "search", "--config", str(place), *few) == 0
    assert "3 trials, 3 measured now" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["bank", "calibrate", "sample"])
def test_commands_for_denoisers_say_that_a_module_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, command, "--config", "jsc-tiny.toml") == 2
    said = capsys.readouterr().err
    assert said == (
        "q2: jsc-tiny.toml: model: the run file is about a module; q2 transform, q2 train and q2 search take it\n"
    )
    assert not list(tmp_path.iterdir())
