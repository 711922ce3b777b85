"""Runs passes in order: prerequisites first, each fact computed once, every failure in one line."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from q2.config import Key, RunFile, dotted
from q2.errors import ConfigError, PassError, Q2Error
from q2.graph import Fact, Graph
from q2.graph.fingerprint import fingerprint
from q2.passes.base import AnalysisPass, Change, LayerError, Pass, PassContext, Report, TransformPass
from q2.plugins import Plugins

__all__ = ["PassManager", "PassResult", "passes_of"]


@dataclass(frozen=True)
class _Known:
    """A report that is still true, and the facts it stands on."""

    report: Report
    facts: frozenset[Fact[Any]]


_REPORTS: Fact[dict[str, _Known]] = Fact("reports", dict)


@dataclass(frozen=True)
class PassResult:
    """One pass as it ran. `title` is its table in the run file; `reused` says that its facts were known already."""

    title: str
    step: Pass
    report: Report
    seconds: float
    reused: bool = False


@dataclass
class PassManager:
    """Runs named passes over a graph.

    Every pass checks its options against the graph before the first one runs. With `verify_each` the graph must equal
    its model after every pass, and an analysis pass must have left the weights and the graph alone.
    """

    passes: Sequence[tuple[str, Pass]]
    ctx: PassContext = field(default_factory=PassContext)
    verify_each: bool = False

    def check(self, graph: Graph) -> None:
        """Raise `ConfigError` for the first pass whose options do not fit the graph, naming its table."""
        for title, step in self.passes:
            try:
                step.check(graph, self.ctx)
            except Q2Error as error:
                raise ConfigError(f"{dotted(('passes', title))}: {error}") from error

    def run(self, graph: Graph) -> list[PassResult]:
        """Run all passes and their missing prerequisites. Raises `PassError`, which names the pass and the layer."""
        return list(self.each(graph))

    def each(self, graph: Graph) -> Iterator[PassResult]:
        """Run as `run` does, and yield every result as soon as it is there."""
        self.check(graph)
        ran: list[str] = []
        for title, step in self.passes:
            for result in self._with_prerequisites(title, step, graph, ran):
                ran.append(result.title)
                yield result

    def _with_prerequisites(self, title: str, step: Pass, graph: Graph, ran: Sequence[str]) -> Iterator[PassResult]:
        for name in step.requires:
            before = self.ctx.plugins.passes.load(name)()
            if not self._known(before, graph):
                yield from self._with_prerequisites(f"{name} (for {title})", before, graph, ran)
        yield self._run(title, step, graph, ran)

    def _run(self, title: str, step: Pass, graph: Graph, ran: Sequence[str]) -> PassResult:
        start = time.perf_counter()
        with _explained(len(ran) + 1, title, ran):
            known = self._known(step, graph)
            said = self.ctx.plugins.before_pass(step.name, graph) if known is None else []
            report = known.report if known else self._call(step, graph)
            seconds = time.perf_counter() - start
            if known is None:
                said += self.ctx.plugins.after_pass(step.name, graph, report, seconds)
            if said:
                report = replace(report, summary=" · ".join([report.summary, *said]))
        return PassResult(title, step, report, seconds, reused=known is not None)

    def _call(self, step: Pass, graph: Graph) -> Report:
        before = _state(graph) if self.verify_each else ""
        if isinstance(step, TransformPass):
            change = step.run(graph, self.ctx)
            self._invalidate(graph, change)
            report: Report = change
        elif isinstance(step, AnalysisPass):
            report = step.run(graph, self.ctx)
            for fact in step.provides:
                if fact not in graph.facts:
                    raise Q2Error(f"promised the fact {fact.name!r} and did not set it")
            reports = graph.facts.get(_REPORTS) if _REPORTS in graph.facts else {}
            graph.facts.set(_REPORTS, {**reports, _identity(step): _Known(report, frozenset(step.provides))})
            if self.verify_each and _state(graph) != before:
                raise Q2Error("is an analysis pass and changed the model or its graph")
        else:
            raise Q2Error(f"{type(step).__name__} is neither an AnalysisPass nor a TransformPass")
        if self.verify_each:
            graph.verify()
        return report

    def _known(self, step: Pass, graph: Graph) -> _Known | None:
        if not isinstance(step, AnalysisPass) or _REPORTS not in graph.facts:
            return None
        return graph.facts.get(_REPORTS).get(_identity(step))

    def _invalidate(self, graph: Graph, change: Change) -> None:
        reports = graph.facts.get(_REPORTS) if _REPORTS in graph.facts else {}
        kept = {key: known for key, known in reports.items() if known.facts and known.facts <= change.preserves}
        graph.facts.drop(preserve=change.preserves)
        graph.facts.set(_REPORTS, kept)


def passes_of(run: RunFile, plugins: Plugins) -> list[tuple[str, Pass]]:
    """Build the passes of a run file in file order. Raises `ConfigError` for an unknown pass or option."""
    built = []
    for title, table in run.settings.passes.items():
        options = dict(table)
        name = options.pop("pass", title)
        key: Key = ("passes", title, "pass") if "pass" in table else ("passes", title)
        if not isinstance(name, str):
            raise ConfigError(f"{run.where(key)}: should be the name of a pass, not {json.dumps(name)}")
        try:
            kind = plugins.passes.load(name)
        except Q2Error as error:
            raise ConfigError(f"{run.where(key)}: {error}") from error
        built.append((title, kind.from_table(options, partial(_where, run, title)).with_paths(run.find)))
    return built


def _where(run: RunFile, title: str, key: Key) -> str:
    return run.where(("passes", title, *key))


def _identity(step: Pass) -> str:
    return (
        f"{type(step).__module__}.{type(step).__qualname__} {json.dumps(step.to_table(), sort_keys=True, default=str)}"
    )


def _state(graph: Graph) -> str:
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
        raise PassError(
            f"pass {number} {title!r} failed{place}: {text}{ran}", ours=not isinstance(cause, Q2Error)
        ) from cause
