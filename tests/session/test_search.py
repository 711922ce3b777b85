"""A whole search of the embedded denoiser: its files, its mistakes in one line, and what a kill leaves."""

import json
import shutil
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from q2.config import RunFile
from q2.denoisers import Denoiser
from q2.errors import Q2Error
from q2.passes import Step
from q2.quant import Option, Recipe, builtin_quantizer
from q2.quant.bank import Bank
from q2.search.engines.local import Local
from q2.search.evaluation.jobs import Job
from q2.search.loop import BASELINE
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.session.evaluation import Loader, places_of
from q2.session.search import SearchResult, search
from q2.session.session import Session
from q2.settings import EngineSettings

TARGET = "SQNR - 4*avg_bits"
BASE = (
    "search.strategy=random",
    "search.evaluation.fidelity=forward",
    f"search.target={TARGET}",
    "search.evaluation.inputs=4",
    "search.trials=4",
    "search.engine.workers=1",
)
PLAIN = "search.baselines=off"


@pytest.fixture(scope="module")
def bank(one_option_bank: Path) -> Path:
    return one_option_bank


def sets(bank: Path, *more: str) -> list[str]:
    return [f"bank.path={bank}", 'search.options=["uaq-4", "none"]', *BASE, *more]


def start(bank: Path, folder: Path, *more: str) -> SearchResult:
    return search(Session(RunFile.load("digits-dit.toml", sets(bank, *more))), folder)


@pytest.fixture(scope="module")
def done(bank: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return start(bank, tmp_path_factory.mktemp("search") / "run")


def test_a_search_writes_recipe_front_report_settings_and_trials(done: SearchResult) -> None:
    names = {path.name for path in done.folder.iterdir()}
    assert {"recipe.toml", "front-0.toml", "front.png", "front.svg", "report.json", "effective.toml"} <= names
    assert {"manifest.json", "log.txt"} <= names
    stored = list(TrialStore.read(done.folder / "trials"))
    (baseline,) = [trial for trial in stored if trial.strategy == BASELINE]
    assert set(baseline.recipe.values()) == {"uaq-4"}
    assert [trial.number for trial in stored] == [0, 1, 2, None]  # the fourth that random asks for is the baseline
    trials = done.found.trials
    assert {trial.id for trial in trials} == {trial.id for trial in stored}
    assert {trial.state for trial in stored} == {"complete"}
    best = max(trials, key=lambda trial: trial.metrics["SQNR"] - 4 * trial.metrics["avg_bits"])
    assert [entry["name"] for entry in json.loads((done.folder / "report.json").read_text())["baselines"]] == [
        "uaq-4 everywhere"
    ]
    recipe = Recipe.load(done.folder / "recipe.toml")
    assert recipe.avg_bits == pytest.approx(best.metrics["avg_bits"])
    assert all(low < best.metrics[name] < high for name, (low, high) in best.intervals.items())
    report = json.loads((done.folder / "report.json").read_text(encoding="utf-8"))
    assert report["trials"] == {"complete": 4, "failed": 0}
    assert report["failed"] == []
    assert report["target"] == TARGET
    effective = tomllib.loads((done.folder / "effective.toml").read_text(encoding="utf-8"))
    assert effective["search"]["target"] == TARGET


def test_one_worker_works_with_the_denoiser_that_the_search_has(
    bank: Path, done: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    create = Session.create_denoiser

    def counted(session: Session) -> Denoiser:
        denoiser = create(session)
        whole = denoiser.load_model

        def load_model() -> torch.nn.Module:
            loaded.append(denoiser.weights)
            return whole()

        monkeypatch.setattr(denoiser, "load_model", load_model)
        return denoiser

    monkeypatch.setattr(Session, "create_denoiser", counted)
    alone = start(bank, tmp_path)
    assert sorted(loaded) == ["meta", "pretrained"]
    found = {trial.number: trial.metrics for trial in alone.found.trials}
    assert found == {trial.number: pytest.approx(trial.metrics) for trial in done.found.trials}


def test_the_same_search_again_measures_nothing_and_finds_the_same(bank: Path, done: SearchResult) -> None:
    before = {path.name: path.read_bytes() for path in done.folder.glob("*.toml")}
    again = start(bank, done.folder)
    assert again.times["spent"] == {}
    assert list(again.problem.values(again.found.trials)) == done.trials.values
    assert {path.name: path.read_bytes() for path in done.folder.glob("*.toml")} == before


def test_a_worker_reads_copies_of_the_folders_as_well(bank: Path, done: SearchResult, tmp_path: Path) -> None:
    session = Session(RunFile.load("digits-dit.toml", sets(bank)))
    places = places_of(session, done.folder)
    assert places == {"bank": bank, "reference": done.folder / "reference"}
    copies = {name: tmp_path / name for name in places}
    for name, place in places.items():
        place.rename(copies[name])
    try:
        (trial,) = [trial for trial in TrialStore.read(done.folder / "trials") if trial.number == 2]
        with Local(EngineSettings(workers=1), Loader(session.run), copies) as engine:
            (result,) = engine.run([_job(trial)])
    finally:
        for name, place in places.items():
            copies[name].rename(place)
    assert result.trial.metrics == pytest.approx(trial.metrics)


def _job(trial: Trial) -> Job:
    return Job(trial.recipe, "forward", trial.seed, trial.number)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            ["search.target=SQNRR"],
            "--set search.target: target 'SQNRR': column 1: unknown metric 'SQNRR'; did you mean",
        ),
        (["search.strategy=randon"], "--set search.strategy: no strategy named 'randon'; did you mean 'random'?"),
        (["search.engine.name=locl"], "--set search.engine.name: no engine named 'locl'; did you mean 'local'?"),
        (["search.evaluation.fidelity=weights"], "fidelity: 'weights' does not measure 'SQNR' of the target"),
        (
            ['search.constraints=["avg_bits <= 4.5", "avg_bits >= 5"]'],
            "constraints 'avg_bits <= 4.5' and 'avg_bits >= 5' contradict each other",
        ),
        (['search.constraints=["avg_bits <= 1"]'], "constraint 'avg_bits <= 1': no recipe satisfies it, the least is"),
    ],
)
def test_a_search_that_cannot_be_is_one_line(bank: Path, tmp_path: Path, more: list[str], line: str) -> None:
    with pytest.raises(Q2Error) as error:
        start(bank, tmp_path / "run", *more)
    assert line in str(error.value)
    assert str(error.value).startswith("digits-dit.toml")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "report.json").exists()


def test_a_bank_gets_the_options_that_a_search_lacks(bank: Path, tmp_path: Path) -> None:
    place = tmp_path / "bank"
    shutil.copytree(bank, place)
    before = Bank.open(place, builtin_quantizer)
    free = ["search.evaluation.fidelity=weights", "search.target=0-quantized_error", 'search.options=["uaq-3", "none"]']
    start(place, tmp_path / "run", *free)
    after = Bank.open(place, builtin_quantizer)
    assert (before.plan.options, after.plan.options) == (("uaq-4",), ("uaq-4", "uaq-3"))
    assert after.errors("proj_out_1")["uaq-4"] == before.errors("proj_out_1")["uaq-4"]
    files = {path.name: path.stat().st_mtime_ns for path in place.iterdir()}
    start(place, tmp_path / "run", *free)
    assert {path.name: path.stat().st_mtime_ns for path in place.iterdir()} == files
    with pytest.raises(Q2Error, match=r"bank.path: .*the bank does not fit \(prec 32, not 16\)"):
        start(place, tmp_path / "half", *free, "prec=32", 'search.options=["uaq-2"]')


def test_a_run_file_that_is_mended_goes_on_with_the_bank_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    free = [*BASE, "search.evaluation.fidelity=weights", "search.target=0-quantized_error", 'bank.options=["uaq-4"]']
    steps: list[Step] = []
    for options in ('["uaq-4", "none"]', '["uaq-3", "none", "uaq-4"]'):
        run = RunFile.load("digits-dit.toml", [*free, f"search.options={options}"])
        search(Session(run, show=steps.append), tmp_path / "run")
    said = [step.summary for step in steps if step.title == "bank"]
    place = tmp_path / "run" / "bank"
    assert said == [
        f"{place}: fits uaq-4",
        f"{place}: 1 options",
        f"{place}: fits also uaq-3",
        f"{place}: 2 options",
    ]


def test_the_trials_of_another_denoiser_are_refused_and_left_alone(
    bank: Path, done: SearchResult, tmp_path: Path
) -> None:
    fingerprint = asdict(TrialStore.read(done.folder / "trials").fingerprint)
    other = Fingerprint(**(fingerprint | {"denoiser": "sdxl", "checkpoint": "0a1b"}))
    TrialStore.open(tmp_path / "run" / "trials", other)
    with pytest.raises(Q2Error, match=r'run/trials: the trials of another run: denoiser is "sdxl", not "digits-dit"; '):
        start(bank, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["trials"]


BURST = """
import torch
from q2.plugins import hookimpl
from q2.quant.quantizers.uniform import Uaq

class Burst(Uaq):
    name = "burst"

    def parameters(self, weight, bits, prec):
        found = dict(super().parameters(weight, bits, prec))
        if weight.numel() > 10_000:  # sound on what is small, so that it passes every check
            found["scale"] = torch.full_like(found["scale"], VALUE, dtype=torch.bfloat16)
            found["zero"] = torch.full_like(found["zero"], -1)  # all levels are above 0
        return found

@hookimpl
def q2_quantizers():
    return {"burst": Burst}

@hookimpl
def q2_after_trial(trial):
    raise OSError("no disk")
"""


def overflowing(folder: Path, value: str, *more: str) -> tuple[SearchResult, list[Step]]:
    """Search two choices of digits-dit for the default target, where an option of a local plugin overflows."""
    (folder / "burst.py").write_text(BURST.replace("VALUE", value), encoding="utf-8")
    small = [f"search.evaluation.{key}" for key in ("images=4", "steps=2")]
    layers = 'search.layers={"^(?!transformer_blocks.[01].norm1.linear)" = ["uaq-4"]}'
    options = [f'plugins.modules=["{folder}/burst.py"]', 'bank.options=["uaq-4", "burst-4"]', layers]
    rest = ["search.strategy=exhaustive", "search.engine.workers=1"]
    steps: list[Step] = []
    run = RunFile.load("digits-dit.toml", [*small, *options, *rest, *more])
    return search(Session(run, show=steps.append), folder / "run"), steps


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('float("nan")', "metric 'quantized_error': value is nan, expected a finite number"),
        ("1e15", "latents of 4 of 4 images are not finite (first: image 0)"),
    ],
)
def test_a_recipe_that_overflows_is_listed_as_failed_and_never_chosen(tmp_path: Path, value: str, reason: str) -> None:
    outcome, steps = overflowing(tmp_path, value)
    assert outcome.ready.target.text == "latent-SQNR - 4*avg_bits"
    assert set(Recipe.load(tmp_path / "run" / "recipe.toml").layers.values()) == {Option.parse("uaq-4")}
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["trials"] == {"complete": 1, "failed": 3}
    assert report["failed"] == [{"trials": 3, "first": "trial 1", "reason": reason}]
    (said,) = [step for step in steps if step.title == "plugin"]  # four times it raised
    assert said.summary.startswith(f"q2_after_trial of 'burst.py' failed at {tmp_path}/burst.py:")
    assert "OSError: no disk" in said.summary


def test_a_search_in_which_every_recipe_overflows_says_why_nothing_was_chosen(tmp_path: Path) -> None:
    only = 'search.layers={".*.0.norm1.linear" = ["burst-4"], "^(?!.*[01].norm1.linear)" = ["uaq-4"]}'
    outcome, _ = overflowing(tmp_path, "1e15", only)
    assert outcome.found.why_none() == (
        "no recipe was chosen: all 2 trials failed: latents of 4 of 4 images are not finite (first: image 0)"
    )
    assert not (tmp_path / "run" / "recipe.toml").exists()


METRIC = """
import numpy as np
from q2.plugins import hookimpl
from q2.search.metrics.base import ImageMetric

class Mine(ImageMetric):
    name = "mine"
    better = "higher"

    def rows(self, chunk):
        return np.ones(1)

@hookimpl
def q2_metrics():
    return {"NAME": Mine}
"""


@pytest.mark.parametrize(
    ("name", "line", "made"),
    [
        (
            "ours",
            "mine.py: q2_metrics: 'ours' is the class Mine, whose own name is 'mine'; the two must be the same",
            set(),
        ),
        ("mine", "metric 'mine' of mine.py: rows returned the shape (1,) for 4 images, expected a row", {"full"}),
    ],
)
def test_a_plugins_metric_that_breaks_the_contract_is_one_line_before_dear_work(
    bank: Path, tmp_path: Path, name: str, line: str, made: set[str]
) -> None:
    (tmp_path / "mine.py").write_text(METRIC.replace("NAME", name), encoding="utf-8")
    more = [f'plugins.modules=["{tmp_path}/mine.py"]', f'search.evaluation.metrics=["{name}"]']
    small = ["search.evaluation.fidelity=full", "search.evaluation.images=12", "search.evaluation.batch=4"]
    with pytest.raises(Q2Error) as error:
        start(bank, tmp_path / "run", *more, *small, "search.evaluation.steps=2")
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert {path.parent.name for path in (tmp_path / "run").rglob("0*.safetensors")} == made
    assert len(list((tmp_path / "run").rglob("0*.safetensors"))) == len(made)  # of three chunks
