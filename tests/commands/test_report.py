"""``q2 report`` as a user calls it: a real transform's folder, its flow graph, and folders that are none."""

from pathlib import Path

import pytest

from tests.test_cli import run


def test_a_transforms_report_has_its_graph_samples_and_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["samples.images=2", "passes.stats.samples=2", "passes.stats.steps=2"]
    out = tmp_path / "run"
    assert run(monkeypatch, "transform", *(f"--set={each}" for each in sets), "--out", str(out)) == 0
    capsys.readouterr()
    assert run(monkeypatch, "report", str(out)) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"written: {out / 'report.html'}, ")
    text = (out / "report.html").read_text()
    assert text.count("data:image/svg+xml;base64,") == 1
    assert text.count("data:image/png;base64,") == 2
    assert "passes.quantize.timestep_embedder" in text


def test_a_wrong_folder_is_said_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "report", str(tmp_path / "gone"), "--out", str(tmp_path / "r.html")) == 2
    assert capsys.readouterr().err.strip() == f"q2: {tmp_path / 'gone'}: no such folder, expected that of a run"
    assert list(tmp_path.iterdir()) == []
