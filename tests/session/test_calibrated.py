"""Calibrated options from the run file to the saved folder: banks, recipes and searches that know of each other."""

from pathlib import Path

import pytest

from q2.config import RunFile
from q2.errors import ConfigError
from q2.quant import Recipe
from q2.session.bank import build_bank, planned_bytes
from q2.session.search import search
from q2.session.session import Session
from q2.session.transform import transform

CALIBRATED = (
    "bank.calibrated=true",
    "calibration.images=2",
    "calibration.steps=3",
    "calibration.rows=96",
    'bank.options=["uaq-3", "kmeans-c-2"]',
    'search.options=["uaq-3", "kmeans-c-2", "none"]',
    "search.evaluation.fidelity=weights",
    "search.target=0-output_error",
    "search.strategy=ilp-error",
    "search.trials=3",
    "search.engine.workers=1",
    "samples.images=0",
)


def session(*sets: str) -> Session:
    return Session(RunFile.load("digits-dit.toml", [*CALIBRATED, *sets]))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        report = build_bank(session())
    assert report.bank.folder == Path("bank/digits-dit-calibrated")
    return folder


def test_a_calibrated_search_goes_by_output_errors_and_its_recipe_finds_its_bank(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    result = search(session(), place / "run")
    errors = [trial.metrics["output_error"] for trial in result.trials]
    assert errors == sorted(errors)
    assert errors[0] == 0.0
    least = result.trials[2].metrics
    assert 2 < least["avg_bits"] < 3.5
    recipe = Recipe.load(place / "run" / "recipe.toml")
    assert recipe.calibration == result.ready.ctx.bank.plan.calibration  # type: ignore[union-attr]
    plain = Session(RunFile.load("digits-dit.toml", ["samples.images=0"]))
    done = transform(plain.with_recipe(result.recipe(result.trials[2])), None)
    data = next(each for each in done.results if each.title == "quantize").report.data
    total = sum(layer.get("output_error", 0.0) for layer in data["layers"].values())  # type: ignore[attr-defined]
    assert total == pytest.approx(least["output_error"], rel=1e-9)
    assert done.recipe.calibration == recipe.calibration


def test_a_plain_search_that_asks_for_output_errors_collects_rows_and_goes_by_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = session(
        "bank.calibrated=false", "search.strategies.ilp-error.error=output_error", "search.target=-avg_bits"
    )
    trials = search(plain, tmp_path / "run").trials
    errors = [trial.metrics["output_error"] for trial in trials]
    assert errors == sorted(errors)
    assert errors[0] == 0.0
    assert (tmp_path / "run" / "bank" / "outputs.json").exists()
    assert (tmp_path / "calibration" / "digits-dit" / "index.json").exists()
    monkeypatch.chdir(place)
    fitted = search(session(), place / "run").trials
    assert 0 < fitted[2].metrics["output_error"] < errors[2]
    assert fitted[2].metrics["avg_bits"] == trials[2].metrics["avg_bits"]


def test_rows_that_are_there_give_plain_banks_output_errors_that_passes_show(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    sets = ["bank.calibrated=false", f"bank.path={tmp_path}/plain"]
    assert build_bank(session(*sets)).bank.rows != ""
    file = tmp_path / "mine.toml"
    file.write_text(
        '[denoiser]\nname = "digits-dit"\n[passes.quantize]\ndefault = "uaq-3"\n[passes.errors]\n[passes.size]\n'
    )
    run = Session(RunFile.load(str(file), [*CALIBRATED, *sets]))
    reports = {each.title: each.report for each in transform(run, None).results}
    layers = reports["errors"].data["layers"]
    assert isinstance(layers, dict)
    total = sum(row["uaq-3"]["output_error"] for row in layers.values())
    assert reports["size"].tables[0].rows[0][5] == pytest.approx(total)
    assert reports["errors"].tables[0].rows[0][3] == pytest.approx(total)
    assert f"output error {total:.4g}" in reports["size"].summary
    assert reports["errors"].tables[1].headers[-2:] == ("output error", "outputs' SQNR dB")
    other = Session(RunFile.load(str(file), [*CALIBRATED, *sets, "calibration.rows=64"]))
    assert build_bank(other).bank.rows == build_bank(run).bank.rows


def test_without_its_bank_a_calibrated_recipe_is_refused_before_weights_are_loaded(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.toml"
    Recipe.of({"proj_out_1": "uaq-3"}, "digits-dit", "", 3.0, "ab12").save(recipe)
    plain = Session(RunFile.load("digits-dit.toml", ["samples.images=0"]))
    with pytest.raises(ConfigError, match=r"calibration ab12, and there is no calibrated bank; name that bank"):
        transform(plain.with_recipe(recipe), None)
    other = Session(RunFile.load("digits-dit.toml", [f"bank.path={place}/bank/digits-dit-calibrated"]))
    with pytest.raises(ConfigError, match=r"calibration ab12, and the bank's is [0-9a-f]{16}; name that bank"):
        transform(other.with_recipe(recipe), None)


def test_a_calibrated_run_without_its_bank_is_not_fitted_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"bank.calibrated: bank/digits-dit-calibrated: there is no bank; q2 bank makes"
    ):
        transform(session(), None)
    assert list(tmp_path.iterdir()) == []


def test_the_bank_takes_what_was_said_before(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    said = planned_bytes(session(), ["uaq-3", "kmeans-c-2"], calibrated=True)
    files = list((place / "bank" / "digits-dit-calibrated").glob("*.safetensors"))
    headers = sum(8 + int.from_bytes(file.read_bytes()[:8], "little") for file in files)
    assert sum(file.stat().st_size for file in files) == said + headers
