"""What passes require: the run's own options, facts that say who made them, and full precision before transforms."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

import q2
from q2.config import RunFile
from q2.errors import ConfigError, PassError, Q2Error
from q2.graph import Fact, Graph
from q2.passes import AnalysisPass, Change, Pass, PassContext, PassManager, Report, TransformPass, passes_of, weight_of
from q2.passes.analysis.dag import Dag
from q2.passes.analysis.size import SIZES, Size
from q2.passes.analysis.stats import STATS, Stats
from q2.passes.analysis.units import UNITS, Units
from q2.passes.kinds import PASSES
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.plugins import Plugins

from .toys import one_of_each

ONE = Units(rules={".": "all"})
EVERYTHING = Quantize(default=Rule(RuleConfig("uaq", 2)))
RANGES = Fact[dict[str, float]]("ranges", dict, of="full precision")
WIDEST = Fact("widest", float)


@dataclass(frozen=True)
class Ranges(AnalysisPass):
    """Range of every weight, times `scale`."""

    name: ClassVar[str] = "ranges"
    provides: ClassVar[tuple[Fact[dict[str, float]], ...]] = (RANGES,)
    scale: float = 1.0

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        layers = graph.weight_layers.items()
        values = {name: self.scale * float(weight_of(layer.module).abs().max()) for name, layer in layers}
        graph.facts.set(RANGES, values)
        return Report("ranges", data=values)


@dataclass(frozen=True)
class Widest(AnalysisPass):
    """The widest range."""

    name: ClassVar[str] = "widest"
    requires: ClassVar[tuple[str, ...]] = ("ranges",)
    provides: ClassVar[tuple[Fact[float], ...]] = (WIDEST,)

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        graph.facts.set(WIDEST, max(graph.facts.get(RANGES).values()))
        return Report("widest", data={"widest": graph.facts.get(WIDEST)})


@dataclass(frozen=True)
class Corrects(TransformPass):
    """Stand behind quantize and read what it has changed."""

    name: ClassVar[str] = "corrects"
    requires: ClassVar[tuple[str, ...]] = ("quantize", "ranges")

    def run(self, graph: Graph, ctx: PassContext) -> Change:
        ranges: dict[str, float] = graph.facts.get(RANGES)
        return Change("corrected", data={**ranges})


@pytest.fixture
def plugins(tmp_path: Path) -> Plugins:
    text = f"from q2.plugins import hookimpl\nfrom {__name__} import Ranges, Widest, Corrects\n"
    text += "@hookimpl\ndef q2_passes(): return {'ranges': Ranges, 'widest': Widest, 'corrects': Corrects}\n"
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    return Plugins([str(tmp_path / "mine.py")], entry_points=False)


def titles(*steps: Pass, graph: Graph | None = None, plugins: Plugins | None = None) -> list[str]:
    results = q2.run_passes(graph or one_of_each(), steps, plugins=plugins)
    return [f"{result.title} again" if result.reused else result.title for result in results]


@pytest.mark.parametrize("steps", [(ONE, Dag()), (Dag(), ONE)])
def test_the_runs_own_pass_serves_with_its_options_wherever_it_stands(steps: tuple[Pass, ...]) -> None:
    graph = one_of_each()
    results = q2.run_passes(graph, steps)
    summaries = {result.step.name: result.report.summary for result in results}
    assert summaries["units"].startswith("1 units")
    assert summaries["dag"].startswith("1 units")
    assert len(graph.facts.get(UNITS)) == 1


def test_a_prerequisite_that_stands_later_is_run_once() -> None:
    assert titles(Dag(), ONE) == ["units (for dag)", "size (for dag)", "dag", "units again"]


def test_a_fact_of_an_earlier_call_serves_and_says_its_options() -> None:
    graph = one_of_each()
    q2.run_passes(graph, [ONE])
    results = q2.run_passes(graph, [Dag()])
    assert [result.title for result in results] == ["size (for dag)", "dag"]
    assert results[-1].report.summary.startswith("1 units")
    origin = graph.facts.origin(UNITS)
    assert origin is not None
    assert (origin.step, origin.options["rules"]) == ("units", {".": "all"})
    assert "units by units(rules={'.': 'all'}, ties=True)" in repr(graph.facts)


def test_what_was_learnt_from_a_replaced_fact_is_learnt_again(plugins: Plugins) -> None:
    graph = one_of_each()
    assert titles(Units(), Dag(), ONE, Dag(), graph=graph)[-2:] == ["units", "dag"]
    assert titles(Units(), graph=graph) == ["units"]
    first = q2.run_passes(graph, [Widest()], plugins=plugins)[-1].report.data["widest"]
    second = q2.run_passes(graph, [Ranges(scale=2.0), Widest()], plugins=plugins)[-1].report.data["widest"]
    assert second == pytest.approx(2 * float(str(first)))
    q2.run_passes(graph, [Ranges(scale=3.0)], plugins=plugins)
    assert WIDEST not in graph.facts


def test_a_prerequisite_that_a_transform_ended_is_run_with_the_options_it_had() -> None:
    graph = one_of_each()
    q2.run_passes(graph, [ONE])
    graph.facts.drop(by="reorder")
    with pytest.raises(
        Q2Error, match=r"fact 'units', set by units\(rules=.*\), ended with 'reorder'; run the pass again"
    ):
        graph.facts.get(UNITS)
    assert q2.run_passes(graph, [Dag()])[-1].report.summary.startswith("1 units")


def test_quantizing_preserves_structure_and_activations_preserve_sizes() -> None:
    steps = (Units(), Size(), QuantizeActivations(), Units(), Size(), EVERYTHING, Units(), Size())
    assert titles(*steps)[3:] == ["units again", "size again", "quantize", "units again", "size"]


def test_full_precision_outlives_transforms_and_is_measured_before_the_first(plugins: Plugins) -> None:
    graph = one_of_each()
    exact = q2.run_passes(one_of_each(), [Ranges()], plugins=plugins)[0].report.data
    run = [Size(), EVERYTHING, Corrects(), Ranges()]
    results = q2.run_passes(graph, run, plugins=plugins)
    assert [r.title for r in results] == ["size", "ranges (for corrects)", "quantize", "corrects", "ranges"]
    assert results[3].report.data == exact == graph.facts.get(RANGES)
    assert not results[-1].reused
    assert results[-1].report.data != exact


def test_full_precision_cannot_be_measured_after_a_transform(plugins: Plugins) -> None:
    graph = one_of_each()
    q2.run_passes(graph, [EVERYTHING])
    q2.run_passes(graph, [Stats(samples=0)])
    with pytest.raises(Q2Error, match="fact 'stats' is of full precision, and was not set before 'quantize'"):
        graph.facts.get(STATS)
    with pytest.raises(ConfigError) as caught:
        q2.run_passes(graph, [Size(), Corrects()], plugins=plugins)
    said = "passes.corrects: requires 'ranges', which is about full precision and cannot run after 'quantize'"
    assert str(caught.value) == f"{said}; run it before"
    assert SIZES not in graph.facts


def test_a_required_transform_has_to_stand_before(plugins: Plugins) -> None:
    message = "passes.corrects: requires the transform 'quantize', which has to stand before it"
    for steps in ([Corrects()], [Corrects(), EVERYTHING]):
        with pytest.raises(ConfigError, match=message):
            q2.run_passes(one_of_each(), steps, plugins=plugins)


def test_passes_that_are_not_asked_for_run_only_where_they_are_required(plugins: Plugins) -> None:
    graph = one_of_each()
    run: list[Pass] = [Ranges(scale=2.0), Size(), EVERYTHING, Corrects()]
    steps = [(step.name, step) for step in run]
    manager = PassManager(steps, PassContext(plugins), only=lambda step: isinstance(step, TransformPass))
    assert [result.title for result in manager.run(graph)] == ["ranges (for corrects)", "quantize", "corrects"]
    origin = graph.facts.origin(RANGES)
    assert origin is not None
    assert origin.options == {"scale": 2.0}


MISSPELT = """
from dataclasses import dataclass
from typing import ClassVar
from q2.passes import AnalysisPass, Report
from q2.plugins import hookimpl

@dataclass(frozen=True)
class Hello(AnalysisPass):
    name: ClassVar[str] = "hello"
    requires: ClassVar[tuple[str, ...]] = ("szie",)
    def run(self, graph, ctx):
        return None

@hookimpl
def q2_passes():
    return {"hello": Hello}

@hookimpl
def q2_after_pass(report):
    report.summary
"""


def test_a_misspelt_prerequisite_is_told_when_the_run_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MISSPELT, encoding="utf-8")
    (tmp_path / "run.toml").write_text("[passes.hello]\n", encoding="utf-8")
    run, plugins = RunFile.load(str(tmp_path / "run.toml")), Plugins([str(tmp_path / "mine.py")], entry_points=False)
    with pytest.raises(ConfigError) as caught:
        passes_of(run, plugins)
    assert str(caught.value) == (
        "run.toml: passes.hello: mine.py: q2_passes: 'hello' requires a pass that is not available: "
        "no pass named 'szie'; did you mean 'size'?"
    )
    (tmp_path / "mine.py").write_text(MISSPELT.replace("szie", "hello"), encoding="utf-8")
    with pytest.raises(ConfigError, match="'hello' requires itself: hello → hello"):
        passes_of(run, Plugins([str(tmp_path / "mine.py")], entry_points=False))


def test_a_pass_that_returns_no_report_is_named_with_its_plugin(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MISSPELT.replace("szie", "size"), encoding="utf-8")
    plugins = Plugins([str(tmp_path / "mine.py")], entry_points=False)
    hello = plugins.of(PASSES).load("hello")()
    with pytest.raises(PassError) as caught:
        q2.run_passes(one_of_each(), [hello], plugins=plugins)
    said = "mine.py: q2_passes: 'hello': Hello.run returned NoneType, expected Report"
    assert str(caught.value) == f"pass 2 'hello' failed: {said}; ran before it: size (for hello)"
    assert not caught.value.ours


def test_a_fact_of_full_precision_is_not_one_of_now() -> None:
    assert replace(RANGES, of="now") != RANGES
    graph = one_of_each()
    graph.facts.set(RANGES, {"head": 1.0})
    with pytest.raises(Q2Error, match="'ranges': stored as dict of full precision, now set as dict"):
        graph.facts.set(replace(RANGES, of="now"), {})
