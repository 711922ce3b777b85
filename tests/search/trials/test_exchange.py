"""Export and import: what goes out comes back, and nothing of a wrong file comes in."""

import csv
import io
import json
from pathlib import Path

import pytest

from q2.errors import ConfigError, Q2Error, TrialError
from q2.search.trials.exchange import export, import_
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

RUN = Fingerprint("digits-dit", "0a1b", "0.1.0", {"images": 200})
TRIALS = [
    Trial({"a": "uaq-4", "b#1": "none"}, {"FID-GT-1k": 1 / 3, "bops": 2.0}, {"FID-GT-1k": (0.1, 0.5)}, number=0),
    Trial({"a": "uaq-3", "b#1": "none"}, {"FID-GT-1k": 9.0}, number=1, strategy="random", seconds=1.25, seed=3),
    Trial({"a": "uaq-2", "b#1": "none"}, number=2, state="failed", error="out of memory, at 'a'"),
]


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    store = TrialStore.open(tmp_path / "trials", RUN)
    for trial in TRIALS:
        store.add(trial)
    return store


def test_json_comes_back_as_it_went_out_and_once(tmp_path: Path, store: TrialStore) -> None:
    export(store, tmp_path / "out.json")
    table = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert table["trials"][0]["recipe"] == {"a": "uaq-4", "b#1": "none"}
    assert table["trials"][0]["metrics"] == {"FID-GT-1k": 1 / 3, "bops": 2.0}
    assert [entry["id"] for entry in table["trials"]] == [trial.id for trial in TRIALS]
    other = TrialStore.open(tmp_path / "other", RUN)
    assert [import_(other, tmp_path / "out.json"), import_(other, tmp_path / "out.json")] == [3, 0]
    assert list(TrialStore.read(tmp_path / "other")) == list(store) == TRIALS
    export(other, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out.json").read_bytes()


def test_csv_is_a_table_of_metrics_and_options(tmp_path: Path, store: TrialStore) -> None:
    export(store, tmp_path / "out.csv", "csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert [row["number"] for row in rows] == ["0", "1", "2"]
    assert float(rows[0]["FID-GT-1k"]) == 1 / 3
    assert (rows[0]["FID-GT-1k low"], rows[0]["FID-GT-1k high"]) == ("0.1", "0.5")
    assert (rows[1]["a"], rows[1]["b#1"], rows[1]["bops"]) == ("uaq-3", "none", "")
    assert list(rows[2])[-2:] == ["a", "b#1"]
    assert rows[2]["state"] == "failed"


def test_an_empty_store_is_exported_too(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    export(store, tmp_path / "out.json")
    export(store, tmp_path / "out.csv", "csv")
    assert import_(store, tmp_path / "out.json") == 0
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "id,number,state,strategy,fidelity,seed,seconds\n"


GOOD = {"recipe": {"a": "uaq-4"}, "metrics": {"FID": 1.0}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON: "),
        ("[]", 'expected {"trials": [{"recipe": {…}, "metrics": {…}}, …]}'),
        ('{"trials": 3}', 'expected {"trials": [{"recipe": {…}, "metrics": {…}}, …]}'),
        (json.dumps({"trials": [GOOD, {"metrics": {}}]}), "trials.1.recipe: Field required"),
        (json.dumps({"trials": [GOOD, 3]}), "trials.1: "),
        (
            json.dumps({"trials": [GOOD, {**GOOD, "metrix": {}}]}),
            "trials.1.metrix: unknown key; did you mean 'metrics'?",
        ),
        (
            json.dumps({"trials": [GOOD, {**GOOD, "metrics": {"FID": "low"}}]}),
            'trials.1.metrics.FID: should be a valid number, not "low"',
        ),
        (json.dumps({"trials": [{**GOOD, "metrics": {"FID": 1e999}}]}), ": FID is inf, expected a finite number"),
        (
            json.dumps({"trials": [GOOD, {"recipe": {"a.b": "uaq-9"}}]}),
            "trials.1.recipe.\"a.b\": width 9 of 'uaq-9' is outside 1 to 8",
        ),
        (
            json.dumps(
                {"trials": [GOOD], "fingerprint": {"denoiser": "sdxl", "checkpoint": "0a1b", "version": "0.1.0"}}
            ),
            'denoiser is "sdxl", not "digits-dit"; evaluation.images is nothing, not 200',
        ),
    ],
)
def test_a_wrong_file_is_one_line_and_nothing_of_it_comes_in(tmp_path: Path, text: str, message: str) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    path = tmp_path / "in.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((TrialError, ConfigError)) as error:
        import_(store, path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(TrialStore.read(tmp_path / "trials")) == 0


def test_a_file_that_is_not_there_or_cannot_be_written_is_one_line(tmp_path: Path, store: TrialStore) -> None:
    with pytest.raises(Q2Error, match=r"gone\.json: cannot be read as JSON: "):
        import_(store, tmp_path / "gone.json")
    (tmp_path / "file").touch()
    with pytest.raises(Q2Error, match=r"out\.json: cannot be written: "):
        export(store, tmp_path / "file" / "out.json")
