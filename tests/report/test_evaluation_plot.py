"""The picture of an evaluation holds every recipe's metrics with their intervals and verdicts."""

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from q2.cli import app
from q2.errors import Q2Error
from q2.report.evaluation import evaluation_page
from q2.report.evaluation_plot import evaluation_plot
from q2.report.folder import RunFolder
from q2.report.parts import Table


def recipe(bits: float, decibels: float, share: float) -> dict[str, object]:
    metrics = {"avg_bits": bits, "model_size": 1e6, "latent-SQNR": decibels, "judge-accuracy": share}
    bounds = {"latent-SQNR": [decibels - 1, decibels + 1], "judge-accuracy": [share - 0.1, share + 0.02]}
    return {"metrics": metrics, "intervals": bounds}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    difference = {"value": 0.0, "low": 0.0, "high": 0.0}
    report = {
        "recipes": {"runs/a/recipe.toml": recipe(3.5, 12.0, 0.9), "runs/b/recipe.toml": recipe(3.0, 9.0, 0.88)},
        "full precision": {"metrics": {"avg_bits": 16.0, "latent-SQNR": 100.0, "judge-accuracy": 0.97}},
        "differences": {
            "runs/b/recipe.toml": {
                "avg_bits": difference | {"verdict": "better"},
                "latent-SQNR": difference | {"verdict": "worse"},
                "judge-accuracy": difference | {"verdict": "within noise, but 12 images are few"},
                "model_size": difference | {"verdict": "same"},
            }
        },
    }
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (tmp_path / "manifest.json").write_text('{"run": {"kind": "evaluate", "denoiser": "net"}}', encoding="utf-8")
    return tmp_path


def test_every_estimate_and_the_bits_have_a_panel_and_full_precision_a_line(folder: Path) -> None:
    plot = evaluation_plot(RunFolder(folder))
    axes = plot.figure.axes
    assert [each.get_xlabel() for each in axes] == [
        "avg_bits (lower is better)",
        "latent-SQNR (dB, higher is better)",
        "judge-accuracy (share, higher is better)",
    ]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["a/recipe.toml", "b/recipe.toml"]
    levels = [[line.get_xdata() for line in each.lines if line.get_linestyle() == "--"] for each in axes]
    assert levels[1:] == [[], [[0.97, 0.97]]]  # 100 dB are a ratio at its limit
    assert plot.rows[2:] == (
        ("runs/a/recipe.toml", "latent-SQNR", 12.0, 11.0, 13.0, "the first"),
        ("runs/b/recipe.toml", "latent-SQNR", 9.0, 8.0, 10.0, "worse"),
        ("runs/a/recipe.toml", "judge-accuracy", 0.9, 0.8, 0.92, "the first"),
        ("runs/b/recipe.toml", "judge-accuracy", 0.88, 0.78, 0.9, "within noise"),
    )


def test_the_command_writes_both_pictures_and_the_numbers(folder: Path) -> None:
    result = CliRunner().invoke(app, ["plot", "evaluation", "--file", str(folder), "--out", str(folder)])
    assert result.exit_code == 0
    assert "evaluation.svg" in result.output
    assert (folder / "evaluation.png").read_bytes()[:4] == b"\x89PNG"
    text = (folder / "evaluation.svg").read_text(encoding="utf-8")
    assert "within noise" in text
    assert "full precision" in text
    rows = list(csv.reader((folder / "evaluation.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[2] == ["runs/b/recipe.toml", "avg_bits", "3.0", "3.0", "3.0", "better"]


@pytest.mark.parametrize(
    ("report", "kind", "said"),
    [
        ("{}", "transform", "the folder of q2 transform, expected one that q2 evaluate --out wrote"),
        ("{}", "evaluate", "no recipes in it"),
        ('{"recipes": {"a": {"metrics": {"x": "y"}}}}', "evaluate", "report.json: recipes: cannot be read"),
        ('{"recipes": {"a": {}}, "differences": [1]}', "evaluate", "report.json: differences: cannot be read"),
    ],
)
def test_another_folder_or_a_damaged_one_is_one_line(folder: Path, report: str, kind: str, said: str) -> None:
    (folder / "report.json").write_text(report, encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps({"run": {"kind": kind}}), encoding="utf-8")
    with pytest.raises(Q2Error, match=said):
        evaluation_plot(RunFolder(folder))


def test_the_report_tells_recipes_of_the_same_file_name_apart(folder: Path) -> None:
    page = evaluation_page(RunFolder(folder))
    (table,) = page.first
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["a/recipe.toml", "b/recipe.toml", "full precision"]
    assert page.verdict.startswith("b/recipe.toml avg_bits: better; b/recipe.toml latent-SQNR: worse")
