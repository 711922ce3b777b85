"""``q2 trials`` as a user meets it."""

import json
import pickle
import sys
from pathlib import Path

import pytest

from q2 import cli
from q2.quant import Recipe
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

RUN = Fingerprint("digits-dit", "0a1b", "0.1.0", {"images": 200})
TRIALS = [
    Trial({"a": "uaq-4"}, {"SQNR": 12.0, "avg_bits": 4.5}, {"SQNR": (11.0, 12.5)}, "forward", 3, 0, 1.5, "random"),
    Trial({"a": "uaq-3"}, {"SQNR": 6.0, "avg_bits": 3.5}, {}, "forward", 3, 1, 1.5, "random"),
    Trial({"a": "none"}, {"avg_bits": 16.0}, {}, "weights", 3, 2, 0.1, "random"),
    Trial({"a": "uaq-2"}, {}, {}, "forward", 3, 3, 0.1, "random", "failed", "MemoryError: none left"),
]
HEAD = ["trial", "state", "strategy", "fidelity", "target", "avg_bits", "SQNR"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    TrialStore.open(tmp_path / "run" / "trials", RUN).extend(TRIALS)
    (tmp_path / "run" / "effective.toml").write_text("[search]\ntarget = 'SQNR - 4*avg_bits'\n", encoding="utf-8")
    return tmp_path / "run"


@pytest.fixture
def q2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Q2":
    return Q2(monkeypatch, capsys)


class Q2:
    def __init__(self, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.patch, self.capsys = patch, capsys
        patch.setenv("COLUMNS", "140")

    def __call__(self, *args: str | Path) -> str:
        """Run ``q2 trials`` and return what it prints; of a mistake the line without ``q2: ``."""
        self.patch.setattr(sys, "argv", ["q2", "trials", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = self.capsys.readouterr()
        if stop.value.code:
            assert (stop.value.code, said.out, said.err.count("\n")) == (2, "", 1)
            return said.err.removeprefix("q2: ").removesuffix("\n")
        assert said.err == ""
        return said.out


def test_a_trials_recipe_is_written(q2: Q2, run: Path) -> None:
    assert f"written: {run}/mine.toml" in q2("show", run, "0", "--out", run / "mine.toml")
    recipe = Recipe.load(run / "mine.toml")
    assert (recipe.denoiser, recipe.fingerprint, recipe.avg_bits) == ("digits-dit", "0a1b", 4.5)
    assert {name: str(option) for name, option in recipe.layers.items()} == {"a": "uaq-4"}
    assert q2("show", run, "3", "--out", run / "none.toml").endswith("has no 'avg_bits', which a recipe says")
    assert not (run / "none.toml").exists()


def numbers(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line.split()[0].isdecimal()]


def test_ls_lists_every_trial_with_what_the_target_makes_of_it(q2: Q2, run: Path) -> None:
    said = q2("ls", run)
    lines = said.splitlines()
    assert lines[0].split() == HEAD
    assert lines[2].split() == ["0", "complete", "random", "forward", "-6", "4.5", "12", "(11", "to", "12.5)"]
    assert lines[4].split() == ["2", "complete", "random", "weights", "16"]
    assert "failed: MemoryError: none left" in lines[5]
    assert lines[-1] == f"4 trials of digits-dit, 1 failed · {run / 'trials'}"
    assert q2("ls", run / "trials") == said


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("SQNR", "1023"), ("-SQNR", "0123"), ("avg_bits", "1023"), ("target", "0123"), ("-target", "0123")],
)
def test_ls_sorts_by_a_metric_or_by_target(q2: Q2, run: Path, sort: str, expected: str) -> None:
    assert numbers(q2("ls", run, "--sort", sort)) == list(expected)
    assert numbers(q2("ls", run, "--sort", sort, "--limit", "2")) == list(expected[:2])


def test_ls_knows_no_target_without_the_runs_settings(q2: Q2, run: Path) -> None:
    (run / "effective.toml").unlink()
    assert q2("ls", run).splitlines()[0].split() == [name for name in HEAD if name != "target"]
    assert q2("ls", run, "--sort", "SQNRs") == (
        "--sort SQNRs: no trial has it; did you mean 'SQNR'? (there are: avg_bits, SQNR)"
    )


def test_show_tells_all_of_a_trial_by_its_number_or_the_start_of_its_id(q2: Q2, run: Path) -> None:
    said = q2("show", run, "0")
    rows = [line.split() for line in said.splitlines()]
    assert ["target", "-6", "=", "SQNR", "-", "4*avg_bits"] in rows
    assert ["SQNR", "12", "11", "12.5"] in rows
    assert ["a", "uaq-4"] in rows
    assert q2("show", run, TRIALS[0].id[:9]) == said
    assert "MemoryError: none left" in q2("show", run, "3")
    assert q2("show", run, "77") == f"{run / 'trials'}: no trial '77' (4 trials)"


def test_merge_makes_a_store_and_says_what_is_new(q2: Q2, run: Path, tmp_path: Path) -> None:
    more = Trial({"a": "kmeans-c-4"}, {"avg_bits": 4.0}, number=9)
    TrialStore.open(tmp_path / "more", RUN).add(more)
    out = tmp_path / "out"
    assert q2("merge", out, run, tmp_path / "more") == f"5 trials, 5 new records · {out}\n"
    assert q2("merge", out, tmp_path / "more", run) == f"5 trials, 0 new records · {out}\n"
    assert list(TrialStore.read(out)) == [*TRIALS, more]


def test_stores_of_another_run_are_not_merged_and_nothing_is_written(q2: Q2, run: Path, tmp_path: Path) -> None:
    TrialStore.open(tmp_path / "more", Fingerprint("sdxl", "0a1b", "0.1.0", {"images": 200}))
    said = q2("merge", tmp_path / "out", run, tmp_path / "more")
    assert said.endswith(f'more: the trials of another run than {run / "trials"}: denoiser is "sdxl", not "digits-dit"')
    assert not (tmp_path / "out").exists()


def test_what_export_prints_or_writes_comes_back_with_import(q2: Q2, run: Path, tmp_path: Path) -> None:
    printed = q2("export", run)
    assert [entry["recipe"] for entry in json.loads(printed)["trials"]] == [trial.recipe for trial in TRIALS]
    assert q2("export", run, "--out", tmp_path / "x.json") == f"written: {tmp_path / 'x.json'}  4 trials\n"
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == printed
    assert q2("export", run, "--format", "csv").splitlines()[1].startswith(f"{TRIALS[0].id},0,complete,random,forward")
    TrialStore.open(tmp_path / "other", RUN)
    assert q2("import", tmp_path / "other", tmp_path / "x.json") == (
        f"4 new records, 4 trials · {tmp_path / 'other'}\n"
    )
    assert list(TrialStore.read(tmp_path / "other")) == TRIALS


def test_a_pickle_of_the_reference_gets_its_sizes_anew(q2: Q2, tmp_path: Path) -> None:
    layers = {"proj_out_2": "kmeans-4", "transformer_blocks.0.attn1.to_q": "mse-3"}
    config = {f"model.{name}.weight_quantizer": [option, 1, 1, 0.5] for name, option in layers.items()}
    cache = tmp_path / "quant_cache.pkl"
    cache.write_bytes(pickle.dumps([{"config": config, "avg_bits": 15.5, "FID-GT-1k": 91.5}, {"config": config}]))
    out = tmp_path / "taken"
    assert q2("import", out, cache) == f"{cache}: a .pkl needs --config, the run file of its denoiser"
    lines = q2("import", out, cache, "--config", "digits-dit.toml").splitlines()
    assert lines[0] == f"2 new records, 2 trials in quant_cache.pkl · {out}"
    (found,) = TrialStore.read(out)
    assert found.metrics["FID-GT-1k"] == 91.5
    assert 15 < found.metrics["avg_bits"] < 16  # two layers of 39 are narrow
    difference = abs(found.metrics["avg_bits"] - 15.5)
    assert lines[1] == f"avg_bits: the file's differ from the recipes' exact ones by {difference:.4f} at most"
    assert TrialStore.read(out).fingerprint.evaluation == {"protocol": "reference"}
    config["model.proj_out_3.weight_quantizer"] = config.pop("model.proj_out_2.weight_quantizer")
    cache.write_bytes(pickle.dumps([{"config": config}]))
    assert q2("import", tmp_path / "new", cache, "--config", "digits-dit.toml") == (
        f"{cache}: entry 0: layers.\"proj_out_3\": no such layer in the search space; did you mean 'proj_out_2'?"
    )
    assert not (tmp_path / "new").exists()


def test_a_store_without_trials_says_that_there_are_none(q2: Q2, tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN).path
    assert q2("ls", tmp_path) == q2("ls", tmp_path, "--sort", "SQNR") == f"no trials of digits-dit · {store}\n"
    assert q2("show", tmp_path, "0") == f"{store}: no trial '0' (0 trials)"
    assert q2("merge", tmp_path / "out", tmp_path) == f"0 trials, 0 new records · {tmp_path / 'out'}\n"
    assert json.loads(q2("export", tmp_path))["trials"] == []
    assert q2("export", tmp_path, "--format", "csv") == "id,number,state,strategy,fidelity,seed,seconds\n"
    q2("export", tmp_path, "--out", tmp_path / "none.json")
    assert q2("import", tmp_path, tmp_path / "none.json") == f"0 new records, 0 trials · {store}\n"


def test_a_store_of_failed_trials_alone_is_shown_with_the_reasons(q2: Q2, tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.extend([TRIALS[3], Trial({}, state="failed", error="no recipe", number=9)])
    lines = q2("ls", tmp_path).splitlines()
    assert lines[2].split(maxsplit=1)[1].startswith("failed: MemoryError: none left")
    assert lines[-1] == f"2 trials of digits-dit, 2 failed · {store.path}"
    assert q2("ls", tmp_path, "--sort", "SQNR") == "--sort SQNR: no trial has it (all trials have failed)"
    assert "MemoryError: none left" in q2("show", tmp_path, "3")
    assert "no recipe" in q2("show", tmp_path, "9")
    assert q2("merge", tmp_path / "out", tmp_path).startswith("2 trials, 2 new records")
    assert q2("export", tmp_path, "--format", "csv").count("failed") == 2
    q2("export", tmp_path, "--out", tmp_path / "some.json")
    assert q2("import", tmp_path, tmp_path / "some.json").startswith("0 new records, 2 trials")


@pytest.mark.parametrize("command", ["ls", "show", "export"])
def test_a_folder_without_trials_is_one_line(q2: Q2, tmp_path: Path, command: str) -> None:
    said = q2(command, tmp_path, *(["0"] if command == "show" else []))
    assert said == f"{tmp_path}: no trial store, expected a folder with store.json"
