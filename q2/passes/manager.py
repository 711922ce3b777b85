"""Runs passes in order: prerequisites first, each fact computed once, every failure in one line."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from q2.arguments import unexpected, whole
from q2.config import Key, dotted
from q2.errors import ConfigError, PassError, PassFailure, PluginError, Q2Error
from q2.passes.base import AnalysisPass, Change, LayerError, Pass, PassContext, Report, TransformPass
from q2.passes.building import passes_from
from q2.passes.instruments import Instrument
from q2.passes.kinds import PASSES
from q2.passes.reports import invalidate, known, remember
from q2.passes.requires import check_requires
from q2.passes.result import PassResult
from q2.plugins import Plugins
from q2.progress import Progress, silent

if TYPE_CHECKING:
    from q2.denoisers import Denoiser
    from q2.graph import Graph
    from q2.quant.bank import Bank
    from q2.quant.calibration.rows import RowStore

__all__ = ["PassManager", "PassResult", "is_transform", "run_passes"]


@dataclass
class PassManager:
    """Runs named passes over a graph, and notifies `instruments` of each.

    Every pass checks its options against the graph before the first one runs. Of `passes` those run that `only` picks;
    another one runs, with its options, where one of these requires it. With `verify_each` the graph must equal its
    model after every pass, and an analysis pass must have left the weights and the graph alone.
    """

    passes: Sequence[tuple[str, Pass]]
    ctx: PassContext = field(default_factory=PassContext)
    verify_each: bool = False
    only: Callable[[Pass], bool] = lambda step: True
    instruments: Sequence[Instrument] = ()
    where: Callable[[Key], str] = dotted
    """How a message names a pass that cannot run, by the key of its table."""

    def check(self, graph: "Graph") -> None:
        """Raise `ConfigError` for the first pass that cannot run on the graph, naming its table."""
        for place, title, step in self._mine():
            try:
                type(step).check_class()
                check_requires(type(step), self._kinds(), self.ctx.plugins)
                for before in self._all_required(step, place, graph):
                    self._check_required(before, place, graph)
                step.check(graph, self.ctx)
            except Q2Error as error:
                raise ConfigError(f"{self.where(('passes', title))}: {error}") from error

    def run(self, graph: "Graph") -> list[PassResult]:
        """Run all passes and their missing prerequisites. Raises `PassError`, which names the pass and the layer."""
        return list(self.each(graph))

    def each(self, graph: "Graph") -> Iterator[PassResult]:
        """Run as `run` does, and yield every result as soon as it is there."""
        self.check(graph)
        ran: list[str] = []
        transformed = False
        for place, title, step in self._mine():
            if isinstance(step, TransformPass) and not transformed:
                transformed = True
                yield from self.measure(graph, ran)
            yield from self._with_prerequisites(place, title, step, graph, ran)

    def measure(self, graph: "Graph", ran: list[str] | None = None) -> Iterator[PassResult]:
        """Run what the passes require that is about full precision; `each` does so before the first transform."""
        ran = [] if ran is None else ran
        for place, title, step in self._mine():
            for before in self._all_required(step, place, graph):
                if isinstance(before, AnalysisPass) and any(fact.is_of_full_precision for fact in before.provides):
                    yield from self._prerequisite(place, title, before, graph, ran)

    def _mine(self) -> Iterator[tuple[int, str, Pass]]:
        return ((place, title, step) for place, (title, step) in enumerate(self.passes) if self.only(step))

    def _kinds(self) -> dict[str, type[Pass]]:
        return {step.name: type(step) for _, step in self.passes}

    def _with_prerequisites(
        self, place: int, title: str, step: Pass, graph: "Graph", ran: list[str], *, needed_by: str = ""
    ) -> Iterator[PassResult]:
        for before in self._required(step, place, graph):
            yield from self._prerequisite(place, title, before, graph, ran)
        result = replace(self._run(place, title, step, graph, ran), needed_by=needed_by)
        for each in self.instruments:
            each.after(result, graph)
        yield result

    def _prerequisite(
        self, place: int, title: str, before: Pass, graph: "Graph", ran: list[str]
    ) -> Iterator[PassResult]:
        if isinstance(before, AnalysisPass) and not self._serves(before, place, graph):
            titled = f"{before.name} (for {title})"
            yield from self._with_prerequisites(place, titled, before, graph, ran, needed_by=title)

    def _serves(self, before: AnalysisPass, place: int, graph: "Graph") -> bool:
        """Return whether the facts of a prerequisite are known: with its options, where it is one of the run's own."""
        settled = graph.facts.transforms and all(fact.is_of_full_precision for fact in before.provides)
        own = before is self._own(before.name, place) and not settled
        if own or not before.provides:
            return known(before, graph) is not None
        return all(fact in graph.facts for fact in before.provides)

    def _required(self, step: Pass, place: int, graph: "Graph") -> list[Pass]:
        """Return the prerequisites of the pass at `place`, with the options that they have there."""
        return [self._own(name, place) or self._built(name, graph) for name in step.requires]

    def _all_required(self, step: Pass, place: int, graph: "Graph") -> Iterator[Pass]:
        for before in self._required(step, place, graph):
            yield from self._all_required(before, place, graph)
            yield before

    def _own(self, name: str, place: int) -> Pass | None:
        """Return the run's own pass of a name: the nearest that stands before `place`, else the first behind it."""
        named = [(index, step) for index, (_, step) in enumerate(self.passes) if step.name == name and index != place]
        before = [step for index, step in named if index < place]
        return before[-1] if before else named[0][1] if named else None

    def _built(self, name: str, graph: "Graph") -> Pass:
        """Return a pass that the run does not have: with the options of its last run on the graph, else its own."""
        kind = self.ctx.plugins.of(PASSES).load(name)
        provides = kind.provides if issubclass(kind, AnalysisPass) else ()
        origins = [origin for fact in provides if (origin := graph.facts.last_origin(fact)) and origin.step == name]
        return kind.from_table(dict(origins[0].options) if origins else {}, dotted)

    def _check_required(self, before: Pass, place: int, graph: "Graph") -> None:
        transforms = graph.facts.transforms
        if isinstance(before, TransformPass):
            if before.name not in (*transforms, *(step.name for _, step in self.passes[:place])):
                raise Q2Error(f"requires the transform {before.name!r}, which has to stand before it")
            return
        before.check(graph, self.ctx)
        provides = before.provides if isinstance(before, AnalysisPass) else ()
        if transforms and any(fact.is_of_full_precision and fact not in graph.facts for fact in provides):
            raise Q2Error(
                f"requires {before.name!r}, which is about full precision and cannot run after {transforms[0]!r}; "
                f"run it before"
            )

    def _run(self, place: int, title: str, step: Pass, graph: "Graph", ran: list[str]) -> PassResult:
        reused = known(step, graph)
        for each in self.instruments if reused is None else ():
            each.before(title, step, graph)
        start = time.perf_counter()
        with _explained(len(ran) + 1, title, ran):
            said = self.ctx.plugins.before_pass(step.name, graph) if reused is None else []
            report = reused or self._call(step, place, graph)
            seconds = time.perf_counter() - start
            if reused is None:
                said += self.ctx.plugins.after_pass(step.name, graph, report, seconds)
            if said:
                report = replace(report, summary=" · ".join([report.summary, *said]))
        ran.append(title)
        return PassResult(title, step, report, seconds, reused=reused is not None)

    def _call(self, step: Pass, place: int, graph: "Graph") -> Report:
        before = _state(graph) if self.verify_each else ""
        with graph.facts.made_by(step.name, step.to_table()):
            report = self._returned(step, graph)
        if isinstance(report, Change):
            invalidate(step.name, report, graph)
        elif isinstance(step, AnalysisPass):
            for fact in step.provides:
                if fact not in graph.facts and not (fact.is_of_full_precision and graph.facts.transforms):
                    raise Q2Error(f"promised the fact {fact.name!r} and did not set it")
            required = [each for each in self._required(step, place, graph) if isinstance(each, AnalysisPass)]
            remember(step, report, [fact for each in required for fact in each.provides], graph)
            if self.verify_each and _state(graph) != before:
                raise Q2Error("is an analysis pass and changed the model or its graph")
        if self.verify_each:
            graph.verify()
        return report

    def _returned(self, step: Pass, graph: "Graph") -> Report:
        """Run a pass. Raises `PluginError` if it returns something else than a pass of its kind returns."""
        assert isinstance(step, AnalysisPass | TransformPass)  # `check` has seen it
        report: object = step.run(graph, self.ctx)
        expected = Change if isinstance(step, TransformPass) else Report
        if not isinstance(report, expected) or (isinstance(report, Change) and expected is Report):
            named, found = self.ctx.plugins.of(PASSES).called(step.name), type(report).__name__
            raise PluginError(f"{named}: {type(step).__name__}.run returned {found}, expected {expected.__name__}")
        return report


def is_transform(step: Pass) -> bool:
    """Return whether a pass changes the model: such a one runs wherever a run file is used."""
    return isinstance(step, TransformPass)


def run_passes(
    graph: "Graph",
    passes: Pass | Iterable[Pass] | str,
    *,
    denoiser: "Denoiser | None" = None,
    seed: int = 0,
    verify_each: bool = False,
    plugins: Plugins | None = None,
    progress: Progress = silent,
    prec: int = 16,
    bank: "Bank | None" = None,
    rows: "RowStore | None" = None,
    instruments: Sequence[Instrument] = (),
) -> list[PassResult]:
    """Run `passes`, or one, over `graph` in order and return their results. Raises `Q2Error` subclasses, one line each.

    `passes` may be a pipeline as text, see `q2.passes.pipeline`. `prec` is how many bits a centroid, a scale and a zero
    point take; `bank` has options that need no fitting, `rows` rows of layers' inputs. `instruments` are told of every
    pass.

    >>> import q2
    >>> from q2.passes.analysis.size import Size
    >>> digits = q2.denoiser("digits-dit")
    >>> graph = q2.trace(digits.model, digits.example_inputs())
    >>> [result.report.data["avg_bits"] for result in q2.run_passes(graph, [Size()])]
    [16.0]
    >>> q2.run_passes(graph, "quantize{default=uaq-4},size")[1].report.summary
    '2.76 MB, 4.108 bits a weight (16 bits: 10.76 MB)'
    """
    from q2.graph.graph import Graph

    if not isinstance(graph, Graph):
        raise unexpected("graph", graph, "a graph, as q2.trace returns it")
    plugins = plugins or Plugins()
    ctx = PassContext(plugins, denoiser, whole("seed", seed), progress, whole("prec", prec, 1), bank, rows=rows)
    return PassManager(_named(passes, plugins), ctx, verify_each, instruments=instruments).run(graph)


def _named(passes: Pass | Iterable[Pass] | str, plugins: Plugins) -> list[tuple[str, Pass]]:
    """Return what `run_passes` was given, with titles. Raises `ConfigError`."""
    if isinstance(passes, str):
        return passes_from(passes, plugins)
    steps = (passes,) if isinstance(passes, Pass) else tuple(passes) if isinstance(passes, Iterable) else (passes,)
    for step in steps:
        if not isinstance(step, Pass):
            raise unexpected("passes", step, "passes, such as q2.passes.analysis.size.Size(), or a pipeline as text")
    return [(step.name, step) for step in steps]


def _state(graph: "Graph") -> str:
    from q2.graph.fingerprint import fingerprint

    return fingerprint(graph.model, exact=True) + str(graph.fx)


@contextmanager
def _explained(number: int, title: str, before: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, LayerError) and error.__cause__ else error
        place = f" at {error.layer!r}" if isinstance(error, LayerError) else ""
        text = str(cause) if isinstance(cause, Q2Error) else f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        ran = f"; ran before it: {', '.join(before)}" if before else ""
        layer = error.layer if isinstance(error, LayerError) else ""
        raise PassError(
            f"pass {number} {title!r} failed{place}: {text}{ran}",
            ours=not isinstance(cause, Q2Error),
            failure=PassFailure(title, number, layer, text),
        ) from cause
