"""Reports that still hold: kept with the graph's facts, each with the facts that it was made from."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from q2.graph import Fact, Origin
from q2.passes.base import AnalysisPass, Change, Pass, Report

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["invalidate", "known", "remember"]


@dataclass(frozen=True)
class _Known:
    """A report, the facts that its pass set, and the origin of these and of the facts that the pass had required."""

    report: Report
    provides: tuple[Fact[Any], ...]
    origins: Mapping[Fact[Any], Origin | None]

    def holds(self, graph: "Graph") -> bool:
        """Return whether no fact that the report was made from has been dropped or replaced since."""
        return all(graph.facts.origin(fact) is origin for fact, origin in self.origins.items())


_REPORTS: Fact[dict[str, _Known]] = Fact("reports", dict)


def known(step: Pass, graph: "Graph") -> Report | None:
    """Return the report of an analysis pass with the same options, while it holds."""
    entry = _reports(graph).get(_identity(step)) if isinstance(step, AnalysisPass) else None
    return entry.report if entry and entry.holds(graph) else None


def remember(step: AnalysisPass, report: Report, required: Iterable[Fact[Any]], graph: "Graph") -> None:
    """Keep the report of a pass that has just run; forget what was learnt from facts that it has replaced."""
    origins = {fact: graph.facts.origin(fact) for fact in (*step.provides, *required)}
    reports = _reports(graph) | {_identity(step): _Known(report, tuple(step.provides), origins)}
    while stale := [key for key, entry in reports.items() if not entry.holds(graph)]:
        for entry in map(reports.pop, stale):
            for fact in entry.provides:
                if graph.facts.origin(fact) is entry.origins[fact]:
                    graph.facts.forget(fact)
    graph.facts.set(_REPORTS, reports)


def invalidate(name: str, change: Change, graph: "Graph") -> None:
    """Drop the facts that a transform does not preserve, and the reports that stand on any other."""
    kept = {key: e for key, e in _reports(graph).items() if e.provides and change.preserves.issuperset(e.provides)}
    graph.facts.drop(preserve=change.preserves, by=name)
    graph.facts.set(_REPORTS, {key: entry for key, entry in kept.items() if entry.holds(graph)})


def _reports(graph: "Graph") -> dict[str, _Known]:
    reports: dict[str, _Known] = graph.facts.get(_REPORTS) if _REPORTS in graph.facts else {}
    return reports.copy()


def _identity(step: Pass) -> str:
    options = json.dumps(step.to_table(), sort_keys=True, default=str)
    return f"{type(step).__module__}.{type(step).__qualname__} {options}"
