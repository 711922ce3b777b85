"""A recipe on a fine-tune: applied with one note and how far its options' errors moved, with no bank in the way."""

import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from q2.config import RunFile
from q2.denoisers import load
from q2.errors import Q2Error
from q2.passes import Step
from q2.quant import Recipe
from q2.session.bank import bank_folder, build_bank
from q2.session.session import Session
from q2.session.transform import Transformed, transform

WORSE = "transformer_blocks.1.ff.net.2"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tune of digits-dit: one layer has outliers, so that three bits are worse there."""
    checkpoint = load("digits-dit").checkpoint
    assert checkpoint is not None
    assert checkpoint.local is not None
    folder = Path(shutil.copytree(checkpoint.local, tmp_path_factory.mktemp("tuned") / "styled"))
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    tensors[f"{WORSE}.weight"][:, 0] = 10 * tensors[f"{WORSE}.weight"].std()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that was found on digits-dit."""
    out = tmp_path_factory.mktemp("found")
    transform(session_of(), out)
    return out / "recipe.toml"


def session_of(*overrides: str, said: list[Step] | None = None) -> Session:
    rules = ["samples.images=0", "passes.stats.samples=0", *overrides]
    return Session(RunFile.load("digits-dit.toml", rules), show=(said if said is not None else []).append)


def applied(recipe: Path | Recipe, *overrides: str) -> tuple[Transformed, list[str]]:
    said: list[Step] = []
    done = transform(session_of(*overrides, said=said).with_recipe(recipe), None)
    return done, [step.summary for step in said if step.title == "recipe"]


def test_one_note_says_the_weights_and_how_far_the_errors_moved(recipe: Path, tuned: Path) -> None:
    for given in (recipe, Recipe.load(recipe)):
        done, said = applied(given, f"denoiser.checkpoint={tuned}")
        assert done.drift is not None
        assert len(said) == 1
        start = rf"found on other weights \({Recipe.load(recipe).fingerprint}; these are \w{{16}}\): SQNR of 37 options"
        assert re.fullmatch(rf"{start} moved by [+-]0.0 dB in the median, by -\d+\.\d dB in '{WORSE}'", said[0])
        moved = done.drift.moved
        assert moved[WORSE] < -3
        assert all(abs(db) < 0.01 for name, db in moved.items() if name != WORSE)
        assert done.report["recipe"] == done.drift.data
    assert Recipe.load(recipe).layers == done.recipe.layers
    assert done.recipe.fingerprint != Recipe.load(recipe).fingerprint


def test_on_its_own_weights_nothing_is_said(recipe: Path) -> None:
    done, said = applied(recipe)
    assert done.drift is None
    assert said == []


def test_a_checkpoint_without_a_name_takes_the_recipe_too(recipe: Path, tuned: Path) -> None:
    done, said = applied(recipe, f"denoiser.checkpoint={tuned}", "denoiser.name=")
    assert done.denoiser.label == "DiTTransformer2DModel"
    assert len(said) == 1
    short = Recipe.of({"proj_out_2": "uaq-3"}, "digits-dit", "", 4.0)
    with pytest.raises(Q2Error, match="the recipe is for 'digits-dit', not for 'DiTTransformer2DModel'"):
        session_of(f"denoiser.checkpoint={tuned}", "denoiser.name=").with_recipe(short)


def test_a_bank_that_nobody_named_is_in_no_ones_way(
    recipe: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = 'bank.options=["uaq-2"]'
    build_bank(session_of(one))
    assert bank_folder(session_of(one)) == Path("bank/digits-dit")
    assert bank_folder(session_of(one, f"denoiser.checkpoint={tuned}")) == Path("bank/digits-dit-styled")
    shutil.copytree("bank/digits-dit", "bank/digits-dit-styled")  # of other weights, whoever put it there
    said: list[Step] = []
    session = session_of(one, f"denoiser.checkpoint={tuned}", said=said).with_recipe(recipe)
    assert transform(session, None).drift is not None
    assert next(step.summary for step in said if step.title == "bank").startswith("left aside: ")
    named = session_of(one, f"denoiser.checkpoint={tuned}", "bank.path=bank/digits-dit").with_recipe(recipe)
    with pytest.raises(Q2Error, match="the bank does not fit"):
        transform(named, None)


def test_the_ratios_are_kept_in_the_recipe_and_checked(recipe: Path, tmp_path: Path) -> None:
    kept = Recipe.load(recipe)
    assert set(kept.sqnr_db) == {name for name, option in kept.layers.items() if not option.is_none}
    text = recipe.read_text(encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(re.sub(r"= \d+\.\d+\n*$", '= "high"\n', text), encoding="utf-8")
    with pytest.raises(Q2Error, match="sqnr_db.*: expected a number, not 'high'"):
        Recipe.load(tmp_path / "recipe.toml")
