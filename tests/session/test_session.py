"""A session's forks keep what they were given, in other processes too; every form of a recipe means the same."""

import pickle
from pathlib import Path

import pytest

import q2
from q2.config import RunFile
from q2.errors import RecipeError
from q2.passes.transform.quantize import Quantize
from q2.quant import Option, Recipe
from q2.session.evaluation import Loader
from q2.session.session import Session


def plan(session: Session) -> dict[str, Option]:
    (step,) = [step for _, step in session.passes if isinstance(step, Quantize)]
    return step.plan(session.outline, session.fork("meta").context())


def test_a_worker_has_the_passes_and_the_weights_of_the_session_that_sent_it() -> None:
    session = q2.open("digits-dit.toml").with_recipe({"proj_out_2": "uaq-3"}).fork("random")
    there = pickle.loads(pickle.dumps(Loader(session.run, session))).session
    assert there.passes == session.passes
    assert there.settings.denoiser.weights == "random"
    bare = pickle.loads(pickle.dumps(Loader(session.run, session.with_passes([])))).session
    assert bare.passes == []


def test_another_search_keeps_the_passes() -> None:
    session = q2.open("digits-dit.toml").with_passes([])
    other = session.with_run(session.run.overridden(["search.trials=3"]))
    assert (other.passes, other.settings.search.trials) == ([], 3)
    assert other.plugins is session.plugins


def test_a_recipe_means_the_same_as_a_file_an_object_and_a_mapping(tmp_path: Path) -> None:
    run = Session(RunFile.load("digits-dit.toml", ['passes.again={pass="quantize", default="uaq-2"}']))
    layers = dict.fromkeys(run.outline.choices, "none") | {"proj_out_2": "uaq-3", "proj_out_1": "kmeans-c-4"}
    recipe = Recipe.of(layers, "digits-dit", "", 16.0)
    recipe.save(tmp_path / "r.toml")
    forms = [plan(run.with_recipe(form)) for form in (tmp_path / "r.toml", recipe, layers)]
    assert forms[0] == forms[1] == forms[2]
    assert forms[0]["proj_out_2"] == Option.parse("uaq-3")


def test_the_recipe_of_another_denoiser_is_refused() -> None:
    session = q2.open("digits-dit.toml")
    other = Recipe.of(dict.fromkeys(session.outline.choices, "uaq-4"), "nobody", "", 4.0)
    with pytest.raises(RecipeError, match="nobody"):
        session.with_recipe(other)
