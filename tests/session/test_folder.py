"""A run's folder belongs to one run: what would replace another kind of run, denoiser or target is refused."""

import json
from pathlib import Path

import pytest

from q2.config import RunFile
from q2.errors import ConfigError, Q2Error
from q2.passes import Step
from q2.search.loop import BASELINE
from q2.search.trials.store import TrialStore
from q2.session.compare import compare
from q2.session.folder import RunOf, check_free, run_in
from q2.session.search import SearchResult, search
from q2.session.session import Session
from q2.session.transform import transform

SETS = (
    "search.strategy=random",
    "search.target=-quantized_error - 5*avg_bits",
    "search.evaluation.fidelity=weights",
    "search.engine.workers=1",
    "search.trials=4",
    'search.options=["uaq-4", "none"]',
    "samples.images=0",
    "passes.stats.samples=0",
)


def session(bank: Path, *more: str, show: list[Step] | None = None) -> Session:
    run = RunFile.load("digits-dit.toml", [*SETS, f"bank.path={bank}", *more])
    return Session(run) if show is None else Session(run, show=show.append)


@pytest.fixture(scope="module")
def searched(one_option_bank: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SearchResult]:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    return folder, search(session(one_option_bank), folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_another_kind_of_run_denoiser_or_target_is_refused_with_a_folder_to_take(
    one_option_bank: Path, searched: tuple[Path, SearchResult]
) -> None:
    folder, _ = searched
    before = files(folder)
    holds = "holds a search of digits-dit for the target '-quantized_error - 5*avg_bits', and this is"
    with pytest.raises(ConfigError) as error:
        transform(session(one_option_bank), folder)
    assert str(error.value) == (
        f"{folder}: {holds} a transform of digits-dit; take another folder, such as {folder}-transform"
    )
    with pytest.raises(ConfigError, match=r"a comparison of strategies of digits-dit .*such as .*mine-compare"):
        compare(session(one_option_bank), ["random"], 1, folder)
    with pytest.raises(ConfigError, match=r"a search of digits-dit for the target '-avg_bits'; .*such as .*mine-2$"):
        search(session(one_option_bank, "search.target=-avg_bits"), folder)
    with pytest.raises(ConfigError, match=r"and this is a search of digits-sdxl for"):
        check_free(folder, RunOf("search", "digits-sdxl", "x"))
    assert files(folder) == before


def test_a_transforms_folder_takes_no_search_and_says_what_it_replaces(one_option_bank: Path, tmp_path: Path) -> None:
    folder, steps = tmp_path / "run", list[Step]()
    transform(session(one_option_bank, show=steps), folder)
    assert "replaces" not in {step.title for step in steps}
    with pytest.raises(
        Q2Error, match=r"holds a transform of digits-dit, and this is a search of .*such as .*run-search"
    ):
        search(session(one_option_bank), folder)
    transform(session(one_option_bank, show=steps), folder)
    assert [step.summary for step in steps if step.title == "replaces"] == [
        f"what a transform wrote in {folder}/ before"
    ]


def test_another_strategy_keeps_all_trials_in_table_front_and_choice(
    one_option_bank: Path, searched: tuple[Path, SearchResult]
) -> None:
    folder, first = searched
    second = search(session(one_option_bank, "search.strategy=ilp-error", "search.trials=3"), folder)
    assert {trial.id for trial in first.found.trials} < {trial.id for trial in second.found.trials}
    own = [trial for trial in second.found.trials if trial.strategy != BASELINE]  # ilp-error may ask for a baseline
    mine = {trial.id for trial in own}
    assert {trial.strategy for trial in own} == {"random", "ilp-error"}
    numbers = [trial.number for trial in own]
    assert len(set(numbers)) == len(numbers)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["trials"] == {"complete": len(second.found.trials), "failed": 0}
    best = max(second.found.values.values())
    assert second.best is not None
    assert second.found.values[second.best.id] == best
    kept = [trial for trial in TrialStore.read(folder / "trials") if trial.strategy != BASELINE]
    assert {trial.id for trial in kept} == mine
    third = search(session(one_option_bank), folder)
    assert {trial.id for trial in third.found.trials if trial.strategy != BASELINE} == mine
    lines = (folder / "log.txt").read_text(encoding="utf-8").splitlines()
    assert sum("  trial " in line for line in lines) == len(mine)  # each was measured, and said, once


def test_folders_of_earlier_versions_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    assert run_in(tmp_path) is None
    (tmp_path / "recipe.toml").write_text("", encoding="utf-8")
    assert run_in(tmp_path) == RunOf("transform")
    (tmp_path / "trials").mkdir()
    assert run_in(tmp_path) == RunOf("search")
    (tmp_path / "manifest.json").write_text("{", encoding="utf-8")
    assert run_in(tmp_path) == RunOf("search")
    assert check_free(tmp_path, RunOf("search", "digits-dit", "SQNR")) == RunOf("search")
    with pytest.raises(ConfigError, match=r"^--out .*: holds a search, and this is an evaluation of digits-dit; "):
        check_free(tmp_path, RunOf("evaluate", "digits-dit"), "--out ")
