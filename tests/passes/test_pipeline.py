"""Pass pipelines as text: the same passes as a run file's, errors that point at the column, and back to text."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

import q2
from q2.config import RunFile
from q2.errors import ConfigError
from q2.graph import Graph
from q2.passes import (
    AnalysisPass,
    PassContext,
    Report,
    TransformPass,
    passes_from,
    passes_of,
    pipeline_text,
    with_pipeline,
)
from q2.passes.analysis.size import Size
from q2.passes.analysis.stats import Stats
from q2.passes.pipeline import parse_pipeline
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins

from .toys import one_of_each

PLUGINS = Plugins(entry_points=False)


def of_toml(folder: Path, text: str) -> list[tuple[str, object]]:
    (folder / "run.toml").write_text(text, encoding="utf-8")
    return list(passes_of(RunFile.load(str(folder / "run.toml")), PLUGINS))


@pytest.mark.parametrize(
    ("text", "toml"),
    [
        ("stats", "[passes.stats]"),
        ("stats{layers=*.to_q, samples=2}", '[passes.stats]\nlayers = "*.to_q"\nsamples = 2'),
        ("size , quantize { default = uaq-4 }\n, size", "[passes.size]\n[passes.quantize]\ndefault = 'uaq-4'\n"
         "[passes.size-2]\npass = 'size'"),
        ("before:size,after:size", "[passes.before]\npass = 'size'\n[passes.after]\npass = 'size'"),
        ("quantize{by=regex,'^pos embed'=none,transformer_blocks.0=uaq-3}",
         "[passes.quantize]\nby = 'regex'\n'^pos embed' = 'none'\n'transformer_blocks.0' = 'uaq-3'"),
        ("quantize{linear={config={name=kmeans-c,weight_width=4}}}",
         "[passes.quantize.linear.config]\nname = 'kmeans-c'\nweight_width = 4"),
        ("quantize{linear={config={name=integer,data_in_width=8,data_in_frac_width=4,weight_width=8,"
         "weight_frac_width=4}}}",
         "[passes.quantize.linear.config]\nname = 'integer'\ndata_in_width = 8\ndata_in_frac_width = 4\n"
         "weight_width = 8\nweight_frac_width = 4"),
        ("quantize-activations{bits=6,attention=false,linear=none}",
         "[passes.quantize-activations]\nbits = 6\nattention = false\nlinear = 'none'"),
        ('units{rules={"blocks\\\\.(\\\\d+)"=\'block.\\1\'},ties=false}',
         "[passes.units]\nties = false\n[passes.units.rules]\n'blocks\\.(\\d+)' = 'block.\\1'"),
    ],
)  # fmt: skip
def test_a_pipeline_means_what_the_same_tables_of_a_run_file_mean(tmp_path: Path, text: str, toml: str) -> None:
    found = passes_from(text, PLUGINS)
    assert found == of_toml(tmp_path, toml)
    assert passes_from(pipeline_text(found), PLUGINS) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: expected a pass, found nothing"),
        (" , size", "column 2: expected the name of a pass, found ','"),
        ("size,", "column 6: expected the name of a pass, found the end"),
        ("size quantize", "column 6: expected ',' or '{', found 'q'"),
        ("size{} quantize", "column 8: expected ',' and another pass, or the end, found 'q'"),
        ("stats{samples}", "column 14: expected '=' after the option 'samples', found '}'"),
        ("stats{samples=}", "column 15: expected a value after 'samples=', found '}'"),
        ("stats{samples=2", "column 16: expected ',' or '}' to close the '{' of column 6, found the end"),
        ("stats{layers=[a b]}", "column 17: expected ',' or ']' to close the '[' of column 14, found 'b'"),
        ("stats{layers='a}", "column 14: expected text that ends with ', found \"'\""),
        ("stats{samples=1,samples=2}", "column 17: the option 'samples' is given twice"),
        ('stats{layers="\\q"}', "column 14: \"\\q\" is no text: its escapes should be JSON's; '…' has none"),
        ("a:size,a:stats", "column 10: the title 'a' is taken by another pass"),
        ("a:", "column 3: expected the name of a pass after 'a:', found the end"),
        ("size,\nstats{", "line 2 column 7: expected an option, found the end"),
        ("size,quantise{default=uaq-4}", "column 6: no pass named 'quantise'; did you mean 'quantize'?"),
        ("size,again:sise", "column 12: no pass named 'sise'; did you mean 'size'?"),
        ("size,stats{sample=3}", "column 12: stats.sample: unknown key; did you mean 'samples'?"),
        ("stats{samples=many}", 'column 7: stats.samples: should be a valid integer, not "many"'),
        ("stats{layers=3}", "column 7: stats.layers: should be text, not 3"),
        ("quantize{linear={config={name=uaq,weight_widht=4}}}",
         "column 35: quantize.linear.config.weight_widht: unknown key; did you mean 'weight_width'?"),
        ("calibrate,quantize{default=uaq-4}", "column 1: runs for every recipe, and has to stand behind "
         "passes.quantize"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_points_at_its_column(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        passes_from(text, PLUGINS)
    assert str(caught.value) == f"passes, {message}"


def test_text_takes_the_place_of_a_run_files_passes_and_overrides_hold() -> None:
    run = RunFile.load("digits-dit.toml", ["passes.stats.samples=1", "passes.stats.steps=x"])
    other = with_pipeline(run, "stats{samples=5,layers=*.to_q}")
    assert other.settings.passes["stats"]["samples"] == 1
    with pytest.raises(ConfigError, match=r"^digits-dit\.toml, --set passes\.stats\.steps: should be a valid integer"):
        passes_of(other, PLUGINS)
    assert other.where(("passes", "stats", "layers")) == "digits-dit.toml, --passes, column 17: stats.layers"
    assert other.where(("passes", "stats", "stepz")) == "digits-dit.toml, --passes, column 1: stepz"


def test_a_recipe_replaces_the_quantize_of_a_pipeline() -> None:
    run = with_pipeline(RunFile.load("digits-dit.toml"), "size,quantize{default=uaq-4}").with_recipe(Path("r.toml"))
    assert run.file["passes"]["quantize"]["by"] == "recipe"
    assert run.where(("passes", "quantize")) == "digits-dit.toml: passes.quantize"


def test_python_runs_text() -> None:
    results = q2.run_passes(one_of_each(), "size,quantize{conv2d=uaq-3,linear=uaq-4},size")
    assert [each.title for each in results] == ["size", "quantize", "size-2"]
    assert results[0].report.data["avg_bits"] == 16
    expected = q2.run_passes(one_of_each(), [Quantize(rules={"conv2d": "uaq-3", "linear": "uaq-4"}), Size()])
    assert results[2].report.data == expected[1].report.data
    with pytest.raises(ConfigError, match=r"^passes, column 6: no pass named 'quantise'; did you mean 'quantize'\?"):
        q2.run_passes(one_of_each(), "size,quantise")


@dataclass(frozen=True)
class Odd(AnalysisPass):
    """Have options of every type, one of which must be given."""

    name: ClassVar[str] = "odd"
    rate: float
    words: tuple[str, ...] = ()
    table: dict[str, int] = field(default_factory=dict)
    flag: bool = False
    text: str = "usual"
    file: Path | None = None

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        return Report("")


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@given(
    rate=st.floats(allow_nan=False, allow_infinity=False),
    several=st.lists(words, max_size=3),
    table=st.dictionaries(words, st.integers(-9, 9), max_size=3),
    flag=st.booleans(),
    text=words | st.sampled_from(["true", "12", "1e5", "-3", ".5", "inf", "nan", "a b", "it's", '"', "a=b", "a:b"]),
)
def test_any_options_come_back_from_the_text(
    rate: float, several: list[str], table: dict[str, int], flag: bool, text: str
) -> None:
    step = Odd(rate, tuple(several), table, flag, text)
    (entry,) = parse_pipeline(pipeline_text([("odd", step)]))
    read = Odd.from_table(entry.table, ".".join)
    assert read == step


def test_defaults_are_left_out_of_the_text_but_for_a_pass_that_has_none() -> None:
    assert pipeline_text([("stats", Stats()), ("stats-2", Stats(samples=0)), ("q", Quantize(default="uaq-4"))]) == (
        "stats,stats{samples=0},q:quantize{default=uaq-4}"
    )
    assert pipeline_text([("odd", Odd(0.5))]) == "odd{rate=0.5,words=[],table={},flag=false,text=usual}"


def test_a_pass_that_may_stand_twice_does_and_the_titles_are_told_apart() -> None:
    assert [entry.title for entry in parse_pipeline("size-2:size,size,size,size")] == [
        "size-2", "size", "size-3", "size-4",
    ]  # fmt: skip
    assert issubclass(Quantize, TransformPass)
    results = q2.run_passes(one_of_each(), "quantize{linear=uaq-4},quantize{linear=uaq-3}")
    assert [each.title for each in results] == ["quantize", "quantize-2"]
