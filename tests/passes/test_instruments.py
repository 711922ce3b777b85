"""Instruments: the graph printed after passes, kept before and after each, and where the time went."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import q2
from q2.errors import ConfigError, PassError
from q2.graph import Graph
from q2.graph.printing import graph_text
from q2.passes import AnalysisPass, Dump, PassContext, PrintAfter, Report, Timing
from q2.passes.transform.quantize import Quantize

from .toys import one_of_each


@dataclass(frozen=True)
class Crash(AnalysisPass):
    """Crash."""

    name: ClassVar[str] = "crash"

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        raise KeyError("missing")


def test_the_graph_as_text_has_every_node_with_its_shape_and_module() -> None:
    graph = one_of_each()
    lines = graph_text(graph).splitlines()
    assert lines[0] == "# graph of OneOfEach: 9 nodes, 4 weight layers, 105 weights"
    nodes = [line for line in lines if not line.startswith("#")]
    assert len(nodes) == len(graph.fx.nodes)
    assert nodes[0] == "%sample = placeholder() : float32[1, 2, 4, 4]"
    assert nodes[1] == (
        "%image = conv2d(%sample) : float32[1, 4, 4, 4] "
        "{image: Conv2d(2, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=2)}"
    )
    assert nodes[-2].startswith("%tail = linear(%head) : float32[1, 16, 3] {tail: Linear(")
    assert nodes[-1] == "output(%tail)"
    assert graph_text(one_of_each()) == graph_text(graph)  # no addresses: two dumps can be compared


def test_the_text_has_what_rewrites_put_in() -> None:
    graph = one_of_each()
    q2.run_passes(graph, "quantize-activations{bits=8}")
    text = graph_text(graph)
    assert "# rewrites, which the nodes below include: quantize-activations" in text
    assert "quantize_activation(%head, 8, (-1,))" in text
    assert "quantize_activation" not in str(graph.fx)


def test_the_graph_is_printed_after_the_passes_that_are_named() -> None:
    printed: list[str] = []
    q2.run_passes(
        one_of_each(),
        "report,quantize{linear=uaq-4},size",
        instruments=[PrintAfter(["quantize", "size"], printed.append)],
    )
    heads = [text.splitlines()[0] for text in printed]
    assert heads == [
        "# after pass 1, size (for report): size",
        "# after pass 3, quantize: quantize{linear=uaq-4}",
        "# after pass 4, size: size",
    ]
    first, quantized, last = printed
    assert "# facts set: sizes" in first
    assert "# facts: +sizes by size()" in first
    assert re.search(r"^%head = linear.*\[\+sizes\]$", first, re.MULTILINE)
    assert "# facts dropped: sizes" in quantized
    assert "# layers changed: head, tail" in quantized
    assert re.search(r"^%head = linear.*\{head: SimulatedLinear\(.*option=uaq-4\)\}$", quantized, re.MULTILINE)
    assert "# transforms so far: quantize" in last


def test_all_is_every_pass_and_one_that_did_not_run_again_says_so() -> None:
    printed: list[str] = []
    q2.run_passes(one_of_each(), "size,size", instruments=[PrintAfter(["all"], printed.append)])
    assert len(printed) == 2
    assert "# its facts were known: it was not run again" in printed[1]
    assert "facts set" not in printed[1]


def test_a_pass_that_the_run_has_not_is_named_with_the_nearest() -> None:
    instrument = PrintAfter(["sise"], print)
    with pytest.raises(
        ConfigError, match=r"^--print-ir-after sise: no pass of the run goes by that name; did you mean"
    ):
        instrument.check([("size", "size"), ("q", "quantize")])
    PrintAfter(["all", "q", "quantize"], print).check([("q", "quantize")])


def test_the_graph_is_kept_before_and_after_each_pass_also_of_one_that_crashes(tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    with pytest.raises(PassError):
        q2.run_passes(one_of_each(), [Quantize(rules={"linear": "uaq-4"}), Crash()], instruments=[Dump(folder)])
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["01-quantize.after.txt", "01-quantize.before.txt", "02-crash.before.txt"]
    before, after, crashed = ((folder / name).read_text(encoding="utf-8") for name in (names[1], names[0], names[2]))
    assert "head: Linear(in_features=6" in before
    assert "head: SimulatedLinear(in_features=6" in after
    assert crashed.splitlines()[0] == "# before pass 2, crash"


def test_a_dump_takes_no_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"^--dump .*: expected a folder that is empty, or not there yet$"):
        Dump(tmp_path).check()
    Dump(tmp_path / "new").check()


def test_the_time_of_a_required_pass_is_below_the_one_that_needed_it() -> None:
    timing = Timing()
    q2.run_passes(one_of_each(), "report,quantize{linear=uaq-4},size,report", instruments=[timing])
    tree = timing.tree({"load": 1.0}, total=100.0)
    assert [part.title for part in tree.parts] == ["load", "passes", "everything else"]
    passes = tree.parts[1]
    assert [part.title for part in passes.parts] == ["report", "quantize", "size", "report-2"]
    assert [part.title for part in passes.parts[0].parts] == ["size"]
    assert passes.seconds == pytest.approx(sum(part.seconds for part in passes.parts))
    assert passes.parts[0].seconds >= passes.parts[0].parts[0].seconds
    assert tree.parts[2].seconds == pytest.approx(99.0 - passes.seconds)
    assert tree.lines()[1][0] == "├─ load"
    assert tree.lines()[1][2] == "1.0%"


def test_what_facts_cost_and_who_reads_them() -> None:
    timing = Timing()
    q2.run_passes(one_of_each(), "size,size,report,quantize{linear=uaq-4},size", instruments=[timing])
    rows = timing.facts().rows
    assert [(row[0], row[1], row[3], row[4]) for row in rows] == [
        ("sizes", "size()", "report", 1),
        ("sizes", "size()", "–", 0),
    ]
    assert all(float(row[2]) > 0 for row in rows)
