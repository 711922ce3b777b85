"""Reduced spaces: their file, what is left of a denoiser's space, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from q2.errors import ConfigError
from q2.search.building.feasible import admitted, repaired
from q2.search.evaluation.costs import Costs
from q2.search.objective.constraints import Constraint
from q2.search.reduced import ReducedSpace, UnitVariants
from q2.search.space import Space
from q2.search.subject import Subject

FULL = Space.of({"a": 10, "b": 10, "c": 20}, ["uaq-4", "uaq-3", "uaq-2"])
TOY = Subject("toy", "0a1b", "rows")
UNIT = UnitVariants("pair", ("a", "b"), (("uaq-4", "uaq-3"), ("uaq-2", "uaq-2")))
SMALL = ReducedSpace(TOY, {"c": ("uaq-3", "uaq-4")}, (UNIT,), {}, "by a test")
HEAD = 'q2 = "space"\nversion = 1\ndenoiser = "toy"\n'


def written(folder: Path, text: str, head: str = HEAD) -> Path:
    path = folder / "top.toml"
    path.write_text(head + text, encoding="utf-8")
    return path


def test_a_space_is_written_and_read_again(tmp_path: Path) -> None:
    made = ReducedSpace(TOY, SMALL.layers, SMALL.units, {"d": "a"}, "by a test")
    made.save(tmp_path / "top.toml")
    assert ReducedSpace.load(tmp_path / "top.toml") == made


def test_units_have_their_variants_and_layers_their_options() -> None:
    space = SMALL.applied(FULL, "toy")
    assert space.size == 4
    assert str(space) == "2^2 recipes, 4"
    assert [choice.options for choice in space.choices] == [("uaq-4", "uaq-2"), ("uaq-3", "uaq-2"), ("uaq-3", "uaq-4")]
    recipes = {tuple(space.draw(0, i).values()) for i in range(60)}
    pairs = [("uaq-4", "uaq-3"), ("uaq-2", "uaq-2")]
    assert recipes == {(*pair, option) for pair in pairs for option in ("uaq-3", "uaq-4")}


def test_a_layer_that_the_file_does_not_name_keeps_its_options() -> None:
    space = ReducedSpace(TOY, {"a": ("uaq-2",)}).applied(FULL, "toy")
    assert [len(choice.options) for choice in space.choices] == [1, 3, 3]
    assert space.units == ()


def test_copies_follow_their_layer_before_there_are_weights_to_tell() -> None:
    space = ReducedSpace(TOY, {"a": ("uaq-2", "uaq-3")}, (), {"c": "a"}).applied(FULL, "toy")
    assert [choice.layers for choice in space.choices] == [("a", "c"), ("b",)]
    assert space.size == 6
    tied = Space.of({"a": 10, "b": 10, "c": 20}, ["uaq-3", "uaq-2"], ties=[("a", "c")])
    assert ReducedSpace(TOY, {"a": ("uaq-2",)}, (), {"c": "a"}).applied(tied, "toy").size == 2


def test_several_files_are_united() -> None:
    other = ReducedSpace(TOY, {"c": ("uaq-2",)}, (UnitVariants("pair", ("a", "b"), (("uaq-3", "uaq-3"),)),))
    space = SMALL.united(other).applied(FULL, "toy")
    assert space.size == 9
    with pytest.raises(ConfigError, match="spaces of toy .* and of dit cannot be united"):
        SMALL.united(ReducedSpace(Subject("dit")))


def test_a_recipe_is_repaired_by_whole_variants() -> None:
    space = SMALL.applied(FULL, "toy")
    widths = np.array([float(option[-1]) for option in space.options])
    costs = Costs(space, {"avg_bits": np.tile(widths / 3, (3, 1))}, {"avg_bits": 0.0})
    bounds = [Constraint("avg_bits", "<=", 2.5)]
    start = space.encode({"a": "uaq-4", "b": "uaq-3", "c": "uaq-4"})
    for seed in range(10):
        found = repaired(costs, bounds, start, np.random.default_rng(seed))
        assert found is not None
        assert admitted(costs, bounds, found)
        assert space.decode(found) == {"a": "uaq-2", "b": "uaq-2", "c": "uaq-3"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[layers]\nc = ["uaq-3", "uaq-5"]\n', "layers.\"c\": 'uaq-5' is no option of the search space: 'c' may take "),
        ('[layers]\nc = ["uaq3"]\n', 'layers."c": '),
        ('[layers]\ncc = ["uaq-3"]\n', "layers.\"cc\": no layer 'cc' in the search space; did you mean 'c'?"),
        ("[layers]\nc = []\n", 'layers."c": expected one or more options'),
        ('[copies]\nd = "a"\n', "copies.\"d\": no layer 'd' in the search space"),
        (
            '[layers]\na = ["uaq-3"]\n[[units]]\nname = "u"\nlayers = ["a"]\nvariants = [["uaq-3"]]\n',
            "units.\"u\": layer 'a' has its options elsewhere in the file",
        ),
        (
            '[[units]]\nname = "u"\nlayers = ["a", "x"]\nvariants = [["uaq-3", "uaq-3"]]\n',
            "units.\"u\": no layer 'x' in the search space",
        ),
    ],
)
def test_what_does_not_fit_the_denoiser_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    found = ReducedSpace.load(written(tmp_path, text))
    with pytest.raises(ConfigError) as error:
        found.applied(FULL, "toy")
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("head", "text", "line"),
    [
        ('q2 = "recipe"\n', "", "not a search space, expected q2 = 'space' in its first line"),
        (HEAD, "lairs = 1\n", "lairs: unknown key; did you mean 'layers'?"),
        (HEAD, "[layers]\nc = 3\n", "layers.c: "),
        ('q2 = "space"\nversion = 9\ndenoiser = ""\n', "", "version: "),
        (
            HEAD,
            '[[units]]\nname = "u"\nlayers = ["a", "b"]\nvariants = [["uaq-3"]]\n',
            'units."u": expected an option for each of its 2 layers, not 1',
        ),
        (HEAD, "x = \n", "not valid TOML"),
    ],
)
def test_a_bad_file_is_one_line_with_file_and_key(tmp_path: Path, head: str, text: str, line: str) -> None:
    path = written(tmp_path, text, head)
    with pytest.raises(ConfigError) as error:
        ReducedSpace.load(path)
    assert str(error.value).startswith(f"{path}: {line}")


def test_another_denoisers_space_is_refused() -> None:
    with pytest.raises(ConfigError, match="a search space of 'toy', not of 'digits-dit'"):
        SMALL.applied(FULL, "digits-dit")
