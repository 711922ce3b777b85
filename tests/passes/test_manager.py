"""The pass manager: prerequisites, each fact once, invalidation, verification, and errors that say where."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import q2
from q2.config import RunFile
from q2.errors import ConfigError, PassError, Q2Error
from q2.graph import Fact, Graph
from q2.passes import AnalysisPass, Change, PassContext, PassManager, Report, TransformPass, at_layer, passes_of
from q2.passes.analysis.bops import Bops
from q2.passes.analysis.report import ReportGraph
from q2.passes.analysis.size import SIZES, Size
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig
from q2.plugins import Plugins

from .toys import one_of_each

TOUCHED = Fact("touched", int)


@dataclass(frozen=True)
class Touch(AnalysisPass):
    """Change a weight, which an analysis pass must not."""

    name: ClassVar[str] = "touch"

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        with torch.no_grad():
            graph.weight_layers["head"].module.weight.add_(1)  # type: ignore[operator]
        return Report("touched")


@dataclass(frozen=True)
class Forgetful(AnalysisPass):
    """Promise a fact and not set it."""

    name: ClassVar[str] = "forgetful"
    provides: ClassVar[tuple[Fact[int], ...]] = (TOUCHED,)

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        return Report("nothing")


@dataclass(frozen=True)
class Fails(AnalysisPass):
    """Fail at a layer, by our fault or by the user's."""

    name: ClassVar[str] = "fails"
    ours: bool = True

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        with at_layer("head"):
            raise ZeroDivisionError("by\nzero") if self.ours else Q2Error("too narrow")


@dataclass(frozen=True)
class Nothing(TransformPass):
    """Change nothing and say that sizes still hold."""

    name: ClassVar[str] = "nothing"

    def run(self, graph: Graph, ctx: PassContext) -> Change:
        return Change("nothing", preserves=frozenset({SIZES}))


def test_a_missing_prerequisite_runs_first_and_only_once() -> None:
    results = q2.run_passes(one_of_each(), [ReportGraph(), ReportGraph(layers="head"), Size()])
    assert [(r.title, r.reused) for r in results] == [
        ("size (for report)", False),
        ("report", False),
        ("report", False),
        ("size", True),
    ]


def test_the_same_facts_are_not_computed_again_in_a_later_call() -> None:
    graph = one_of_each()
    first = q2.run_passes(graph, [Bops()])
    second = q2.run_passes(graph, [Bops()])
    assert second[0].reused
    assert second[0].report is first[0].report


def test_a_transform_drops_the_facts_it_does_not_preserve() -> None:
    graph = one_of_each()
    everything = Quantize(default=Rule(RuleConfig("uaq", 4)))
    results = q2.run_passes(graph, [Size(), Bops(), Nothing(), Size(), Bops(), everything, Size()])
    assert [r.reused for r in results] == [False, False, False, True, False, False, False]
    assert results[-1].report.data["avg_bits"] != results[0].report.data["avg_bits"]


def test_an_error_names_the_pass_the_layer_and_what_ran_before() -> None:
    with pytest.raises(PassError) as caught:
        q2.run_passes(one_of_each(), [Size(), Fails()])
    assert str(caught.value) == "pass 2 'fails' failed at 'head': ZeroDivisionError: by zero; ran before it: size"
    assert caught.value.ours
    with pytest.raises(PassError, match="pass 1 'fails' failed at 'head': too narrow") as caught:
        q2.run_passes(one_of_each(), [Fails(ours=False)])
    assert not caught.value.ours


def test_verify_each_catches_an_analysis_pass_that_changes_a_weight() -> None:
    q2.run_passes(one_of_each(), [Touch()])
    with pytest.raises(PassError, match="is an analysis pass and changed the model or its graph"):
        q2.run_passes(one_of_each(), [Touch()], verify_each=True)


def test_a_pass_that_breaks_its_promise_is_told() -> None:
    with pytest.raises(PassError, match="promised the fact 'touched' and did not set it"):
        q2.run_passes(one_of_each(), [Forgetful()])


def test_every_pass_is_checked_before_the_first_one_runs() -> None:
    graph = one_of_each()
    wrong = Quantize(rules={"linea": Rule(RuleConfig("uaq", 4))})
    with pytest.raises(ConfigError, match=r"passes\.quantize: no layer has the type 'linea'; did you mean 'linear'\?"):
        q2.run_passes(graph, [Size(), wrong])
    assert SIZES not in graph.facts


def test_a_plugin_hears_of_every_pass_that_runs(tmp_path: Path) -> None:
    (tmp_path / "ears.py").write_text(
        "from q2.plugins import hookimpl\nheard = []\n"
        "@hookimpl\ndef q2_before_pass(name): heard.append('before ' + name)\n"
        "@hookimpl\ndef q2_after_pass(name, report): heard.append('after ' + name + ': ' + report.summary[:4])\n",
        encoding="utf-8",
    )
    plugins = Plugins([str(tmp_path / "ears.py")], entry_points=False)
    PassManager([("one", Nothing())], PassContext(plugins)).run(one_of_each())
    module = plugins._manager.get_plugin("ears.py")
    assert module is not None
    assert module.heard == ["before nothing", "after nothing: noth"]


@pytest.mark.parametrize("hook", ["q2_before_pass", "q2_after_pass"])
def test_a_plugin_that_raises_when_told_of_a_pass_is_reported_once_and_ends_no_run(tmp_path: Path, hook: str) -> None:
    text = f"from q2.plugins import hookimpl\n@hookimpl\ndef {hook}(name):\n    1 / 0\n"
    (tmp_path / "bad.py").write_text(text, encoding="utf-8")
    ctx = PassContext(Plugins([str(tmp_path / "bad.py")], entry_points=False))
    results = PassManager([("one", Nothing()), ("size", Size())], ctx).run(one_of_each())
    line = f" · {hook} of 'bad.py' failed at {tmp_path / 'bad.py'}:4: ZeroDivisionError: division by zero"
    assert line in results[0].report.summary
    assert "bad.py" not in results[1].report.summary


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[passes.quantise]", r"run\.toml: passes\.quantise: no pass named 'quantise'; did you mean 'quantize'\?"),
        ("[passes.a]\npass = 'sizes'", r"run\.toml: passes\.a\.pass: no pass named 'sizes'; did you mean 'size'\?"),
        ("[passes.a]\npass = 3", r"run\.toml: passes\.a\.pass: should be the name of a pass, not 3"),
        ("[passes.stats]\nsample = 3", r"run\.toml: passes\.stats\.sample: unknown key; did you mean 'samples'\?"),
        ("[passes.stats]\nsamples = '3'", r"passes\.stats\.samples: should be a valid integer, not \"3\""),
    ],
)
def test_a_wrong_pass_table_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        passes_of(RunFile.load(str(tmp_path / "run.toml")), Plugins(entry_points=False))


def test_one_pass_runs_twice_under_two_names(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("[passes.before]\npass='size'\n[passes.after]\npass='size'\n", encoding="utf-8")
    built = passes_of(RunFile.load(str(tmp_path / "run.toml")), Plugins(entry_points=False))
    assert built == [("before", Size()), ("after", Size())]
