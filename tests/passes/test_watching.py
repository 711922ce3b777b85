"""What passes may ask for: nodes watched while a denoiser denoises, rows of inputs, the bank."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import q2
from q2.config import RunFile
from q2.errors import PassError, Q2Error
from q2.graph import Fact, Graph
from q2.passes import AnalysisPass, PassContext, Report, is_transform
from q2.passes.analysis.stats import STATS, RunningMoments
from q2.passes.watching import KeepRows, Seen
from q2.quant.calibration.rows import RowStore
from q2.session.session import Session

from .toys import one_of_each

STEPS = 3


@pytest.fixture(scope="module")
def digits() -> q2.Denoiser:
    return q2.denoiser("digits-dit")


@pytest.fixture
def graph(digits: q2.Denoiser) -> Graph:
    return q2.trace(digits.model, digits.example_inputs())


def test_observers_see_inputs_and_outputs_of_any_node_step_by_step(digits: q2.Denoiser, graph: Graph) -> None:
    log: list[tuple[str, int, int, range]] = []

    def note(seen: Seen) -> None:
        log.append((seen.name, seen.call, seen.step, seen.images))
        module = graph.model.get_submodule("proj_out_2")
        assert torch.equal(module(seen.input), seen.tensor)

    products = KeepRows(10)
    plain = digits.generate(3, seed=1, steps=STEPS, batch=2)
    watched = PassContext(denoiser=digits, seed=1).watch(
        graph, {"proj_out_2": note, "scaled_dot_product_attention*": products}, images=3, steps=STEPS, batch=2
    )
    assert watched.calls == 2 * STEPS
    assert watched.seen["proj_out_2"] == 2 * STEPS
    assert log == [("proj_out_2", i, i, range(2)) for i in range(STEPS)] + [
        ("proj_out_2", i, i, range(2, 3)) for i in range(STEPS)
    ]
    assert products.values is not None
    assert products.values.shape[0] == 10
    assert products.seen == 4 * STEPS * 3 * 16 * _heads(graph)  # blocks, calls, images, tokens
    assert not graph.rewrites
    again = digits.generate(3, seed=1, steps=STEPS, batch=2)
    assert torch.equal(plain.images, again.images)


def _heads(graph: Graph) -> int:
    config: Any = graph.model.config
    return int(config.num_attention_heads)


def test_moments_of_watched_inputs_are_those_of_the_pass_stats(digits: q2.Denoiser, graph: Graph) -> None:
    sums = RunningMoments()
    PassContext(denoiser=digits).watch(graph, {"proj_out_2": lambda seen: sums.add(seen.input)}, images=2, steps=2)
    q2.run_passes(graph, "stats{layers=proj_out_2,samples=2,steps=2}", denoiser=digits)
    assert graph.facts.get(STATS)["proj_out_2"].activation == sums.moments()


def test_a_pattern_without_a_node_and_an_observer_that_fails_are_one_line_with_the_node(graph: Graph) -> None:
    ctx = PassContext()
    with pytest.raises(Q2Error, match=r"^no node matches 'proj_out_3'; did you mean 'proj_out_2'\?$"):
        ctx.watch(graph, {"proj_out_3": print})

    @dataclass(frozen=True)
    class Fails(AnalysisPass):
        """Fail in an observer."""

        name: ClassVar[str] = "fails"

        def run(self, graph: Graph, ctx: PassContext) -> Report:
            ctx.watch(graph, {"proj_out_1": lambda seen: 1 / 0})
            return Report("")

    with pytest.raises(
        PassError, match=r"^pass 1 'fails' failed at 'proj_out_1': ZeroDivisionError: division by zero$"
    ):
        q2.run_passes(graph, Fails())
    assert not graph.rewrites
    assert not graph.is_installed


def test_a_bare_graph_is_run_on_its_example_inputs_and_inputs_of_the_model_can_be_watched() -> None:
    graph, found = one_of_each(), list[Seen]()
    PassContext().watch(graph, {"sample": found.append, "head": found.append})
    assert [seen.name for seen in found] == ["sample", "head"]
    assert found[0].tensor is graph.example_inputs["sample"]
    assert found[1].step == found[1].call == 0


def test_kept_rows_are_bounded_and_the_same_each_time() -> None:
    graph = one_of_each()
    kept = [KeepRows(4, of="input", seed="a"), KeepRows(4, of="input", seed="a"), KeepRows(4, of="input", seed="b")]
    for each in kept:
        PassContext().watch(graph, {"head": each})
    first, second, other = (each.values for each in kept)
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.shape == (4, 6)
    assert kept[0].seen == 16
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


RANGES = Fact[dict[str, float]]("ranges", dict, of="full precision")


@dataclass(frozen=True)
class Ranges(AnalysisPass):
    """Read calibration rows, or the bank."""

    name: ClassVar[str] = "ranges"
    needs_rows: ClassVar[bool] = True
    provides: ClassVar[tuple[Fact[dict[str, float]], ...]] = (RANGES,)

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        rows = ctx.need_rows("ranges")
        found = {name: rows.rows(name) for name in graph.weight_layers}
        graph.facts.set(RANGES, {name: float(each.values.abs().max()) for name, each in found.items() if each})
        return Report(f"{len(found)} layers")


PLUGIN = """
from q2.plugins import hookimpl
from tests.passes.test_watching import Ranges

@hookimpl
def q2_passes():
    return {"ranges": Ranges}
"""
SMALL = {"calibration.images": 1, "calibration.steps": 2, "calibration.rows": 8, "samples.images": 0}


def test_a_pass_that_needs_rows_gets_them_and_a_run_draws_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ranges.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "run.toml").write_text('[denoiser]\nname = "digits-dit"\n[passes.ranges]\n', encoding="utf-8")
    run = q2.open("run.toml", SMALL | {"plugins.modules": ["ranges.py"]})
    done = run.transform()
    rows = RowStore.open(tmp_path / "calibration" / "digits-dit").rows("proj_out_2")
    assert rows is not None
    assert done.graph.facts.get(RANGES)["proj_out_2"] == float(rows.values.abs().max())
    meta = Session(RunFile.load("run.toml", SMALL | {"plugins.modules": ["ranges.py"], "denoiser.weights": "meta"}))
    assert meta.needs_weights(meta.passes[0][1])
    assert meta.with_rows(meta.context()).rows is None
    assert Session(run.run).with_rows(PassContext(), is_transform).rows is None


def test_what_a_context_lacks_is_said_with_what_makes_it() -> None:
    with pytest.raises(PassError, match=r"ranges needs rows of inputs; q2 calibrate collects them, and run_passes"):
        q2.run_passes(one_of_each(), Ranges())
    with pytest.raises(Q2Error, match=r"^this needs a bank; q2 bank makes one, and run_passes"):
        PassContext().need_bank("this")


class TwiceAStep(nn.Module):
    """Denoise with guidance in two calls a step."""

    drawing = range(0)

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(2, 2)

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        result: Tensor = self.proj(sample) * timestep
        return result

    def generate(self, count: int, **options: object) -> None:
        for first in range(0, count, 2):
            self.drawing = range(first, first + 2)
            for time in (9.0, 5.0):
                for _ in range(2):
                    self(torch.ones(1, 2), torch.full((1,), time))


def test_two_calls_of_one_timestep_are_one_step() -> None:
    model, found = TwiceAStep().eval(), list[Seen]()
    graph = q2.trace(model, {"sample": torch.ones(1, 2), "timestep": torch.ones(1)})
    denoiser: Any = model
    watched = PassContext(denoiser=denoiser).watch(graph, {"proj": found.append}, images=4)
    assert [(seen.images, seen.call, seen.step) for seen in found] == [
        (range(first, first + 2), call, call // 2) for first in (0, 2) for call in range(4)
    ]
    assert watched.calls == 8
