"""What every pass must do, as tests that its own inherit."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import ClassVar

import torch
from torch import Tensor, nn

from q2.denoisers import Denoiser, Weights
from q2.errors import PassError
from q2.graph import Graph, trace
from q2.graph.fingerprint import fingerprint
from q2.passes import AnalysisPass, Change, Pass, PassContext, PassManager, Report, TransformPass
from q2.passes.requires import check_requires
from q2.passes.transform.switch import Switch
from q2.plugins import Plugins
from q2.quant import Option
from q2.testing.options import OptionsSuite
from q2.testing.problems import tiny_model

__all__ = ["PassSuite"]


class PassSuite(OptionsSuite):
    """Tests of a pass: a subclass called ``Test…`` sets `step`, and pytest finds the rest.

    `first` are passes of the same run that stand before it. `repeatable` is false for a pass that measures time: its
    report differs from run to run. A pass that needs another model overrides `model`, one that needs images `denoiser`,
    and one whose plugin is a local file `plugins`.
    """

    step: ClassVar[Pass]
    first: ClassVar[tuple[Pass, ...]] = ()
    repeatable: ClassVar[bool] = True
    _ran: ClassVar["tuple[Ran, Ran]"]

    def thing(self) -> Pass:
        """Return the pass."""
        return self.step

    def plugins(self) -> Plugins:
        """Return where the passes that it requires are found: the installed plugins."""
        return Plugins()

    def denoiser(self, weights: Weights) -> Denoiser | None:
        """Return a denoiser with ``random`` weights, or on ``meta``, for a pass that draws images; None by default."""
        return None

    def model(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """Return a module and example inputs: by default a transformer block of six layers and `x` (2, 4, 8)."""
        generator = torch.Generator().manual_seed(0)
        return tiny_model(), {"x": torch.randn(2, 4, 8, generator=generator)}

    def traced(self, weights: Weights = "random") -> tuple[Graph, PassContext]:
        """Return a graph that no pass has seen, and the context to run passes in."""
        denoiser = self.denoiser(weights)
        if denoiser is not None:
            return trace(denoiser.model, denoiser.example_inputs()), PassContext(self.plugins(), denoiser)
        model, inputs = self.model()
        if weights == "meta":
            model, inputs = model.to("meta"), {name: value.to("meta") for name, value in inputs.items()}
        return trace(model, inputs), PassContext(self.plugins())

    def run(self, graph: Graph, ctx: PassContext, *, verify: bool = True) -> "Ran":
        """Run the passes before it and it itself; with `verify` the graph has to equal its model after each."""
        steps = [(type(step).name, step) for step in (*self.first, self.step)]
        before, found = _state(graph), []
        for result in PassManager(steps, ctx, verify_each=verify).each(graph):
            found.append(result)
            if result.step in self.first:
                before = _state(graph)
        return Ran(graph, found[-1].report, before, _state(graph))

    @classmethod
    def ran(cls) -> "tuple[Ran, Ran]":
        """Return what two runs on the same model gave; they are done once for all tests of the class."""
        if "_ran" not in vars(cls):
            suite = cls()
            cls._ran = suite.run(*suite.traced()), suite.run(*suite.traced(), verify=False)
        return cls._ran

    def test_it_is_a_complete_pass_and_what_it_requires_is_there(self) -> None:
        """The class is what q2 takes, and the passes that it requires exist."""
        kind = type(self.step)
        kind.check_class()
        known = {type(step).name: type(step) for step in self.first}
        check_requires(kind, known, self.plugins())

    def test_it_leaves_a_graph_that_runs_as_its_model_and_a_report(self) -> None:
        """After it the graph still equals its model; its report has a line, even tables and plain data."""
        report = self.ran()[0].report
        assert report.summary
        assert "\n" not in report.summary
        for table in report.tables:
            assert all(len(row) == len(table.headers) for row in table.rows)
        json.dumps(report.data)
        assert all("/" not in name and isinstance(data, bytes) for name, data in report.files.items())

    def test_an_analysis_changes_nothing(self) -> None:
        """Weights, graph, modes, gradients, hooks and torch's own random numbers are what they were."""
        if isinstance(self.step, AnalysisPass):
            run, _ = self.ran()
            assert run.after == run.before

    def test_the_facts_that_it_promises_are_there(self) -> None:
        """Every fact that it provides is set, by this pass with these options."""
        if isinstance(self.step, AnalysisPass):
            run, _ = self.ran()
            for fact in self.step.provides:
                origin = run.graph.facts.origin(fact)
                assert origin is not None, f"the fact {fact.name!r} is not set"
                assert (origin.step, origin.options) == (type(self.step).name, self.step.to_table())

    def test_a_transform_names_layers_that_there_are(self) -> None:
        """What it says it changed are modules of the model."""
        if isinstance(self.step, TransformPass):
            run, _ = self.ran()
            assert isinstance(run.report, Change)
            assert set(run.report.changed) <= set(dict(run.graph.model.named_modules())) | set(run.graph.choices)

    def test_what_it_does_for_a_recipe_is_undone_before_the_next(self) -> None:
        """In a search the first recipe gives the same weights again after another one."""
        if isinstance(self.step, TransformPass) and self.step.per_recipe:
            graph, ctx = self.traced()
            switch = Switch(graph, ctx, PassManager([(type(self.step).name, self.step)], ctx))
            seen = []
            for option in ("uaq-4", "uaq-3", "uaq-4"):
                switch(dict.fromkeys(graph.choices, Option.parse(option)))
                seen.append(fingerprint(graph.model, exact=True))
            assert seen[0] == seen[2] != seen[1]

    def test_two_runs_give_the_same(self) -> None:
        """On the same model it leaves the same weights, and reports the same where it measures no time."""
        first, second = self.ran()
        assert first.after.weights == second.after.weights
        if self.repeatable:
            for part in ("summary", "tables", "data"):
                assert getattr(first.report, part) == getattr(second.report, part)

    def test_without_weights_it_runs_or_has_said_that_it_needs_them(self) -> None:
        """On meta it runs, unless `needs_weights` is true; then q2 leaves it out, and by hand it is one line."""
        graph, ctx = self.traced("meta")
        problem: PassError | None = None
        try:
            assert self.run(graph, ctx, verify=False).report.summary
        except PassError as error:
            problem = error
        if problem is not None:
            assert self.step.needs_weights, "it reads weights: set needs_weights"
            assert not problem.ours, str(problem)
            assert "\n" not in str(problem)


@dataclass(frozen=True)
class State:
    """All of a model and its graph that an analysis leaves alone."""

    weights: str
    fx: str
    rewrites: tuple[str, ...]
    modules: Mapping[str, tuple[type, bool, int, int]]
    grads: Mapping[str, bool]
    random: str


@dataclass(frozen=True)
class Ran:
    """A pass as it ran: the graph, its report, and the state before and after it."""

    graph: Graph
    report: Report
    before: State
    after: State


def _state(graph: Graph) -> State:
    modules = {
        name: (type(each), each.training, len(each._forward_hooks), len(each._forward_pre_hooks))
        for name, each in graph.model.named_modules()
    }
    grads = {name: each.requires_grad for name, each in graph.model.named_parameters()}
    weights, random = fingerprint(graph.model, exact=True), sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()
    return State(weights, str(graph.fx), tuple(graph.rewrites), modules, grads, random)
