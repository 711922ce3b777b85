"""The example of docs/predictor.md, as a user runs it: its commands and its Python, on the graphs that are shipped."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from q2.search.predictor.modules import Modules
from tests.test_cli import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "predictor.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## Graphs of any kind") :].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", SECTION, flags=re.DOTALL)


def test_the_pages_commands_and_python_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples" / "nas", "examples/nas")
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("q2 ")]
    quick = {"train": ["--folds", "2", "--epochs", "3"]}
    for line in lines:
        _, group, command, *rest = shlex.split(line, comments=True)
        capsys.readouterr()
        assert run(monkeypatch, group, command, *rest, *quick.get(command, [])) == 0, line
    assert [line.split()[1:3] for line in lines] == [
        ["predictor", "train"],
        ["predictor", "explain"],
        ["predictor", "label"],
        ["plot", "graph"],
        ["plot", "importance"],
    ]
    folder = Path("examples/nas/predictor")
    modules = Modules.load(folder / "modules.json")
    assert modules.target == "accuracy - latency/2"
    assert {len(found) for found in modules.units.values()} == {10}
    with next(Path("plots").glob("graph-*.csv")).open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["node", "unit", "stage", "expansion", "kernel", "block", *(f"hop {h}" for h in range(5))]
    best = max(
        json.loads((ROOT / "examples" / "nas" / "graphs.json").read_text(encoding="utf-8"))["graphs"],
        key=lambda graph: graph["metrics"]["accuracy"] - graph["metrics"]["latency"] / 2,
    )
    assert [row[3] for row in rows] == [node["expansion"] for node in best["nodes"]]
    assert len({tuple(row[6:]) for row in rows}) > 1
    assert len(list(Path("plots").glob("graph-*-hop-?.svg"))) == 5 == len(list(Path("plots").glob("graph-*-hop-?.png")))
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(block, names)
    assert isinstance(names["modules"], Modules)

    for args, line in (
        (("--graph", "160"), "--graph 160: expected best, predicted, or a number from 0 to 159"),
        (("--graph", "worst"), "--graph worst: expected best, predicted, or a number from 0 to 159"),
    ):
        capsys.readouterr()
        assert run(monkeypatch, "plot", "graph", "--predictor", str(folder), *args, "--out", "none") == 2
        assert capsys.readouterr().err == f"q2: {line}\n"
    assert not Path("none").exists()
    assert run(monkeypatch, "plot", "graph", "--predictor", str(folder), "--graph", "predicted", "--out", "other") == 0
    (folder / "graphs.npz").unlink()
    capsys.readouterr()
    assert run(monkeypatch, "plot", "graph", "--predictor", str(folder)) == 2
    line = f"q2: {folder}: no graphs.npz: expected what q2 predictor train --graphs wrote\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("acuracy", "target 'acuracy': column 1: unknown metric 'acuracy'; did you mean 'accuracy'?"),
        ("accuracy/(latency-latency)", "target 'accuracy/(latency-latency)': graph 0: "),
    ],
)
def test_a_target_that_graphs_do_not_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = ROOT / "examples" / "nas" / "graphs.json"
    assert run(monkeypatch, "predictor", "train", "--graphs", str(file), "--target", target) == 2
    assert capsys.readouterr().err.startswith(f"q2: {line}")
    assert list(tmp_path.iterdir()) == []
