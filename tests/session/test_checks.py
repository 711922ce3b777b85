"""What can be known before dear work is said before it: the same line with ``--dry-run``, exit 2, nothing written."""

import sys
from pathlib import Path

import pytest

from q2.cli import main
from q2.denoisers.digits import DigitsDiT

FREE = ("search.evaluation.fidelity=forward", "search.target=SQNR - 4*avg_bits", "search.engine.workers=1")
SEARCHES = {
    "a constraint that does not parse": (
        ["search.constraints=['avg_bits < 3']"],
        "search.constraints: constraint 'avg_bits < 3': expected a metric, <= or >=, and a number",
    ),
    "a constraint on something else": (["search.constraints=['avg_bit <= 3']"], "did you mean 'avg_bits'"),
    "a constraint that cannot be met": (["search.constraints=['avg_bits <= 1']"], "no recipe satisfies it"),
    "an option of a strategy": (
        ["search.strategy=predictor", "search.strategies.predictor.round=2"],
        "search.strategies.predictor.round: unknown key; did you mean 'rounds'",
    ),
    "too few trials for folds": (
        ["search.strategy=predictor", "search.trials=10"],
        "search.strategies.predictor: search.trials: 6 of 10 are random",
    ),
    "a device that is not here": (
        [
            "search.strategy=predictor",
            "search.strategies.predictor.scores=labels",
            "search.strategies.predictor.device=gpu",
        ],
        "search.strategies.predictor: device 'gpu' cannot be used here",
    ),
    "too few trials for all recipes": (["search.strategy=exhaustive"], "use more trials, fewer options"),
    "an option's typo": (['search.options=["uaqq-4"]'], "no quantizer named 'uaqq' in 'uaqq-4'; did you mean 'uaq'"),
    "a layer that is not there": (["search.layers.proj_outt=['none']"], "finds no layer of the search space"),
    "a recipe file that is not there": (
        ["passes.again.pass=quantize", "passes.again.by=recipe", "passes.again.recipe=none.toml"],
        "passes.again: none.toml",
    ),
    "FID without Inception": (
        ["search.evaluation.fidelity=full", 'search.evaluation.metrics=["FID-FP-1k"]', "search.evaluation.inception=x"],
        "FID-FP-1k: Inception's weights are missing",
    ),
    "CMMD without CLIP": (
        ["search.evaluation.fidelity=full", 'search.evaluation.metrics=["CMMD"]'],
        "CMMD: needs search.evaluation.clip",
    ),
    "output errors by the images that recipes are measured with": (
        ["search.target=0-output_error", "calibration.seed=0"],
        "calibration.seed: 0 is search.evaluation.seed too: recipes would be measured with the images",
    ),
    "an engine that is not there": (["search.engine.name=slurm"], "no engine named 'slurm'"),
    "weights that are only shapes": (["denoiser.weights=meta"], "denoiser.weights: 'meta' has no values to measure"),
    "a bank that is something else": (["bank.path=notes"], "notes: is no bank"),
    "an output that is a file": (["seed=1"], "--out file/run: file is a file, expected a folder"),
}


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    monkeypatch.setattr(sys, "argv", ["q2", *args])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in a folder of its own, where loading weights is an error of ours."""
    whole = DigitsDiT.load_model

    def load_model(self: DigitsDiT) -> object:
        assert self.weights == "meta", "weights are loaded"
        return whole(self)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "today.txt").write_text("no bank")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(DigitsDiT, "load_model", load_model)


@pytest.mark.parametrize("case", SEARCHES)
def test_a_search_says_it_before_it_loads_weights_and_so_does_a_dry_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    sets, line = SEARCHES[case]
    out = "file/run" if "--out" in line else "run"
    command = ["search", *(part for each in (*FREE, *sets) for part in ("--set", each)), "--out", out]
    first = said(monkeypatch, capsys, *command)
    assert line in first
    assert first.startswith("q2: --out" if "--out" in line else "q2: digits-dit.toml")
    assert first.count("\n") == 1
    assert said(monkeypatch, capsys, *command, "--dry-run") == first
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "file"}


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["transform", "--recipe", "none.toml"], "q2: --recipe none.toml: cannot be read: No such file or directory\n"),
        (["transform", "--set", "bank.path=none"], "bank.path: none: is no bank"),
        (["transform", "--set", "bank.path=notes"], "notes: is no bank"),
        (["bank", "--set", "bank.path=notes"], "notes: is no bank"),
        (["bank", "--out", "notes"], "notes: is no bank"),
        (["transform", "--save", "notes"], "notes: already exists"),
        (["transform", "--set", "passes.quantize.by=regex", "--set", "passes.quantize.transfomer='uaq-4'"], "no layer"),
        (["sample", "--class-id", "11"], "class 11 is outside 0 to 9"),
        (["sample", "--recipe", "none.toml"], "none.toml"),
        (["sample", "--offload", "model"], "--offload: the denoiser runs on the CPU already"),
        (["export", "--to", "ggml", "--out", "x"], "no exporter named 'ggml'"),
        (["export", "--to", "dequantized", "--out", "x", "--recipe", "none.toml"], "none.toml"),
        (["export", "--to", "dequantized", "--out", "notes"], "notes: already exists"),
        (["export", "--to", "gguf", "--out", "x"], "x: expected a name that ends in .gguf"),
        (["evaluate", "--recipe", "none.toml"], "none.toml"),
        (["evaluate", "--recipe", "none.toml", "--out", "file"], "--out file: file is a file, expected a folder"),
        (["bank", "--set", 'bank.options=["uaq-9"]'], "uaq-9"),
    ],
)
def test_other_commands_say_it_before_they_load_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: list[str], line: str
) -> None:
    error = said(monkeypatch, capsys, *command)
    assert line in error
    assert error.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "file"}
