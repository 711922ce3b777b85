"""A dry run says what a search would take, and writes nothing."""

from pathlib import Path

import pytest

from q2.config import RunFile
from q2.errors import ConfigError
from q2.session.plan import plan_search
from q2.session.session import Session


def said(*sets: str, config: str = "digits-dit.toml") -> dict[str, str]:
    return {step.title: step.summary for step in plan_search(Session(RunFile.load(config, list(sets))))}


def test_a_dry_run_says_space_time_memory_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = said('search.layers={"^pos_embed"=["none"]}', "search.evaluation.images=50", "search.trials=7")
    assert lines["space"] == "digits-dit · 39 weight layers in 13 units · 39 choices, 1 of them fixed"
    assert lines["target"].startswith("latent-SQNR - 4*avg_bits · 7^38 recipes")
    assert lines["bank"].startswith("not built: 1.2 MB, ≈ ")
    assert lines["trial"].startswith("50 images x 12 steps ≥ ")
    assert "7 trials ≥" in lines["trial"]
    assert lines["trial"].endswith(" with 2 of them")
    assert lines["disk"] == "reference ≈ 1 MiB"
    assert lines["baselines"] == "7: each option everywhere, beside the trials"
    assert said("search.baselines=off")["baselines"] == "none"
    assert list(tmp_path.iterdir()) == []


def test_a_bank_that_lacks_options_says_how_long_they_take(one_option_bank: Path) -> None:
    path = f"bank.path={one_option_bank}"
    assert said(path, 'search.options=["uaq-4", "none"]')["bank"] == f"{one_option_bank}: there"
    assert said(path, 'search.options=["uaq-4", "uaq-3"]')["bank"].startswith(
        f"{one_option_bank}: lacks uaq-3: 0.1 MB, ≈ "
    )


def test_free_fidelities_draw_no_images() -> None:
    free = ["search.evaluation.fidelity=weights", "search.target=0-quantized_error"]
    with pytest.raises(ConfigError, match=r"search.strategies.fisher: needs the denoiser to run.*; use ilp-error$"):
        said(*free)
    lines = said(*free, "search.strategy=random")
    assert lines["disk"] == "reference ≈ 0 MiB"
    assert "≥ 0.0 s" in lines["trial"]


def test_the_tables_name_layers_with_options_of_their_own() -> None:
    steps = plan_search(Session(RunFile.load("digits-dit.toml", ['search.layers={"^pos_embed"=["none"]}'])))
    assert steps[0].tables[0].rows == (("pos_embed.proj", "none"),)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("search.strategy=randm", "search.strategy: no strategy named 'randm'; did you mean 'random'"),
        ("search.engine.name=lokal", "search.engine.name: no engine named 'lokal'; did you mean 'local'"),
        ("search.target=FIT-GT-1k", "search.target: target 'FIT-GT-1k': column 1: unknown metric 'FIT-GT-1k'"),
        ('search.evaluation.metrics=["SQN"]', "search.evaluation.metrics: no metric named 'SQN'; did you mean 'SQNR'"),
        ('search.layers={"x_embed"=["none"]}', "finds no layer of the search space"),
        (
            'search.options=["uaqq-4", "none"]',
            "--set search.options: no quantizer named 'uaqq' in 'uaqq-4'; did you mean 'uaq'",
        ),
        ('bank.options=["uaq4"]', "--set bank.options: 'uaq4' is no option, expected a quantizer and a width"),
        ('search.layers={"x"=["uaq-9"]}', "--set search.layers.x: width 9 of 'uaq-9' is outside 1 to 8"),
        ("search.evaluation.fidelity=forward", "'forward' does not measure 'latent-SQNR' of the target"),
    ],
)
def test_what_a_search_would_stop_at_is_one_line(setting: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as found:
        said(setting)
    assert str(found.value).startswith("digits-dit.toml")
    assert "\n" not in str(found.value)
