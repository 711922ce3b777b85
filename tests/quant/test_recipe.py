import dataclasses
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q2.errors import RecipeError
from q2.quant import Option, Recipe

OPTIONS = st.one_of(
    st.just(Option("none", 0)), st.builds(Option, st.sampled_from(["uaq", "kmeans-c", "own"]), st.integers(1, 8))
)
TEXT = st.text().filter(lambda text: text.isprintable() and not set(text) & set("\\\"'"))
RECIPES = st.builds(Recipe, st.dictionaries(TEXT, OPTIONS), TEXT, TEXT, st.floats(0, 64))

GOOD = """\
q2 = "recipe"
version = 1
denoiser = "digits-dit"
fingerprint = "sha256:0a1b"
avg_bits = 4.25

[layers]
"transformer_blocks.1.attn1.to_q" = "kmeans-c-3"
"transformer_blocks.0.attn1.to_q" = "uaq-4"
proj_out = "none"
"""


@given(RECIPES)
def test_a_recipe_reads_back_exactly_and_in_order(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    path = tmp_path_factory.getbasetemp() / "recipe.toml"
    recipe.save(path)
    loaded = Recipe.load(path)
    assert loaded == recipe
    assert list(loaded.layers) == list(recipe.layers)


def test_the_file_is_what_people_read(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD)
    recipe = Recipe.load(path)
    assert recipe.layers["transformer_blocks.1.attn1.to_q"] == Option("kmeans-c", 3)
    assert (recipe.denoiser, recipe.fingerprint, recipe.avg_bits) == ("digits-dit", "sha256:0a1b", 4.25)
    recipe.save(path)
    assert path.read_text() == GOOD


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"uaq-4"', '"uaq-4', "not valid TOML: Illegal character '\\n' (at line 9, column 43)"),
        ('q2 = "recipe"\n', "", "not a recipe, expected q2 = 'recipe' in its first line"),
        ("version = 1", "version = 2", "version: expected 1, not 2"),
        ("avg_bits", "avg_bit", "avg_bit: unknown key; did you mean 'avg_bits'?"),
        ("avg_bits = 4.25", "", "avg_bits: expected a number, but it is missing"),
        ("4.25", '"4"', "avg_bits: expected a number, not '4'"),
        ("4.25", "true", "avg_bits: expected a number, not True"),
        ("4.25", "nan", "avg_bits: expected a finite number of bits, not nan"),
        ("4.25", "-1", "avg_bits: expected a finite number of bits, not -1"),
        ('"digits-dit"', "3", "denoiser: expected text, not 3"),
        ('fingerprint = "sha256:0a1b"', "", "fingerprint: expected text, but it is missing"),
        ('"uaq-4"', "4", "layers.\"transformer_blocks.0.attn1.to_q\": expected an option such as 'kmeans-c-4', not 4"),
        ('"uaq-4"', '"uaq-9"', "layers.\"transformer_blocks.0.attn1.to_q\": width 9 of 'uaq-9' is outside 1 to 8"),
        (GOOD[GOOD.index("[layers]") :], "layers = 3", "layers: expected a table, not 3"),
        ("proj_out", "'a\"b'", "layers: expected printable text without quotes and backslashes, not 'a\"b'"),
    ],
)
def test_a_wrong_file_is_one_line_with_file_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(RecipeError) as error:
        Recipe.load(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_file_that_cannot_be_read_or_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.toml: cannot be read: "):
        Recipe.load(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b"denoiser = '\xe9'")
    with pytest.raises(RecipeError, match=r"latin\.toml: cannot be read: "):
        Recipe.load(tmp_path / "latin.toml")
    (tmp_path / "file").touch()
    with pytest.raises(RecipeError, match=r"recipe\.toml: cannot be written: "):
        Recipe({}, "d", "", 4.0).save(tmp_path / "file" / "recipe.toml")


def test_a_recipe_is_checked_against_layers_and_denoiser() -> None:
    recipe = Recipe.of({"a.to_q": "uaq-4", "a.to_k": "NA"}, "digits-dit", "", 4.0)
    recipe.check(["a.to_q", "a.to_k", "a.to_v"], "digits-dit")
    with pytest.raises(RecipeError) as error:
        recipe.check(["a.to_k", "a.to_qq"], "digits-dit")
    assert str(error.value) == "layers.\"a.to_q\": no such weight layer in 'digits-dit'; did you mean 'a.to_qq'?"
    with pytest.raises(RecipeError) as error:
        recipe.check(["a.to_q", "a.to_k"], "sdxl")
    assert str(error.value) == "the recipe is for 'digits-dit', not for 'sdxl'"


def test_a_recipe_keeps_its_own_copy_and_travels() -> None:
    layers: dict[str, str | Option] = {"a": "uaq-4"}
    recipe = Recipe.of(layers, "d", "", 4)
    layers["b"] = "uaq-3"
    assert dict(recipe.layers) == {"a": Option("uaq", 4)}
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.denoiser = "x"  # type: ignore[misc]
