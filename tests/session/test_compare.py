"""q2 search compare: the same budget and seeds for every strategy, nothing measured twice, resumable."""

import csv
import json
import sys
from pathlib import Path

import pytest

from q2 import cli
from q2.config import RunFile
from q2.errors import ConfigError
from q2.passes import Step
from q2.search.trials.store import TrialStore
from q2.session.compare import compare
from q2.session.session import Session

SETS = [
    'bank.options=["uaq-4", "uaq-3"]',
    "search.target=-quantized_error - 5*avg_bits",
    "search.evaluation.fidelity=weights",
    "search.trials=6",
    "search.engine.workers=1",
    'search.strategies.few={strategy="optuna", sampler="tpe", batch=3}',
    "samples.images=0",
]


def test_a_comparison_shares_trials_and_goes_on_where_it_was(tmp_path: Path) -> None:
    steps: list[Step] = []
    session = Session(RunFile.load("digits-dit.toml", SETS), show=steps.append)
    found = compare(session, ["random", "few"], 2, tmp_path)
    assert [(s.strategy, s.seed, len(s.values)) for s in found.compared.searches] == [
        ("random", 7, 6),
        ("random", 8, 6),
        ("few", 7, 6),
        ("few", 8, 6),
    ]
    assert found.compared.quality.name == "quantized_error"
    count = len(TrialStore.read(tmp_path / "trials"))
    assert 12 < count <= 24 + 2  # and the baselines
    first = {file.name: file.read_bytes() for file in found.files}
    assert set(first) == {"compare.json", "compare.csv", "compare.png", "compare.svg"}
    values = {name: each["target"] for name, each in json.loads(first["compare.json"])["baselines"].items()}
    assert set(values) == {"uaq-4 everywhere", "uaq-3 everywhere"}
    top = max(values, key=lambda name: values[name])
    assert found.table.rows[-1][0] == f"best baseline: {top}"
    assert float(str(found.table.rows[-1][2])) == pytest.approx(values[top], rel=1e-4)
    assert f"best baseline: {top}" in first["compare.svg"].decode()
    rows = list(csv.DictReader(first["compare.csv"].decode().splitlines()))
    assert len(rows) == 24
    summary = json.loads(first["compare.json"])["strategies"]["few"]
    finals = [float(row["best target"]) for row in rows if row["strategy"] == "few" and row["trial"] == "6"]
    assert summary["best target"][-1]["mean"] == pytest.approx(sum(finals) / 2)
    steps.clear()
    again = compare(session, ["few", "random"], 2, tmp_path)
    texts = [step.summary for step in steps if step.title in ("few", "random")]
    assert len(texts) == 4
    assert all("6 trials, 0 measured now" in text for text in texts)
    assert len(TrialStore.read(tmp_path / "trials")) == count
    assert again.compared.curve("few") == found.compared.curve("few")


def test_a_strategy_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    session = Session(RunFile.load("digits-dit.toml", SETS))
    with pytest.raises(ConfigError, match="strategies: no strategy named 'optun'; did you mean 'optuna'"):
        compare(session, ["random", "optun"], 2, tmp_path / "run")
    with pytest.raises(ConfigError, match="strategies random,random: expected one or more, all different"):
        compare(session, ["random", "random"], 2, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_search_is_a_command_and_a_group(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", ["q2", *args])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        return capsys.readouterr().err

    error = run("search", "--strategy", "randon", "--dry-run")
    assert error.startswith("q2: digits-dit.toml, --set search.strategy: no strategy named 'randon'; did you mean")
    error = run("search", "compare", "--strategies", "randon")
    assert error == "q2: strategies: no strategy named 'randon'; did you mean 'random'?\n"
