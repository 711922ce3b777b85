"""Instruments are told of every pass of a run: they print the graph, or keep it in files before and after each."""

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from q2.errors import ConfigError, Q2Error, there_are, why
from q2.files import write_text
from q2.graph import Fact, Origin
from q2.passes.base import Change, Pass
from q2.passes.result import PassResult

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["ALL", "Dump", "FactsBefore", "Instrument", "PrintAfter"]

ALL = "all"
_MOST = 6


class Instrument:
    """Told of every pass that a `PassManager` runs, prerequisites included. Subclass it and override what is wanted.

    What it raises ends the run as it is, and should be a `Q2Error`.
    """

    def before(self, title: str, step: Pass, graph: "Graph") -> None:
        """Called before a pass runs; not for one whose facts are known already."""

    def after(self, result: PassResult, graph: "Graph") -> None:
        """Called after a pass ran, and for one that was not run again (`PassResult.reused`)."""


class FactsBefore:
    """Remembers which facts a graph has, to report later which were added, changed or removed."""

    def __init__(self, graph: "Graph") -> None:
        self._origins: dict[Fact[Any], Origin | None] = {fact: graph.facts.origin(fact) for fact in graph.facts}

    def changed(self, graph: "Graph") -> list[Fact[Any]]:
        """Return the facts that are new, or have another value."""
        found = [(fact, graph.facts.origin(fact)) for fact in graph.facts]
        return [fact for fact, origin in found if origin and origin.step and origin is not self._origins.get(fact)]

    def dropped(self, graph: "Graph") -> list[str]:
        """Return the names of the facts that are no longer there."""
        return [fact.name for fact, o in self._origins.items() if o and o.step and fact not in graph.facts]


@dataclass
class PrintAfter(Instrument):
    """Writes the graph as text after the passes that are named, by pass or by title; ``"all"`` means every one."""

    names: Collection[str]
    write: Callable[[str], None]
    _before: FactsBefore | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    def check(self, passes: Iterable[tuple[str, str]], called: str = "--print-ir-after") -> None:
        """Raise `ConfigError` for a name that is neither the title nor the name of a pass among `passes`."""
        known = {name: None for pair in passes for name in pair}
        for name in self.names:
            if name != ALL and name not in known:
                raise ConfigError(f"{called} {name}: no pass of the run goes by that name{there_are(name, known)}")

    def before(self, title: str, step: Pass, graph: "Graph") -> None:
        """Remember the facts."""
        self._before = FactsBefore(graph)

    def after(self, result: PassResult, graph: "Graph") -> None:
        """Write the graph, if the pass is one of those."""
        self._count += 1
        before = FactsBefore(graph) if result.reused or self._before is None else self._before
        if {ALL, result.title, result.step.name} & set(self.names):
            self.write(_after(f"pass {self._count}", result, before, graph))


@dataclass
class Dump(Instrument):
    """Keeps the graph before and after each pass in `folder`: ``02-quantize.before.txt``, ``02-quantize.after.txt``."""

    folder: Path
    called: str = "--dump"
    _before: FactsBefore | None = field(default=None, init=False)
    _count: int = field(default=0, init=False)

    def check(self) -> None:
        """Raise `ConfigError` for a folder that has something in it, or is none."""
        try:
            taken = self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir()))
        except OSError as error:
            raise ConfigError(f"{self.called} {self.folder}: cannot be read: {why(error)}") from error
        if taken:
            raise ConfigError(f"{self.called} {self.folder}: expected a folder that is empty, or not there yet")

    def before(self, title: str, step: Pass, graph: "Graph") -> None:
        """Write the graph as the pass finds it."""
        from q2.graph.printing import graph_text

        self._count += 1
        self._before = FactsBefore(graph)
        self._write(title, "before", f"# before pass {self._count}, {title}\n{graph_text(graph)}")

    def after(self, result: PassResult, graph: "Graph") -> None:
        """Write the graph as the pass leaves it."""
        if not result.reused and self._before is not None:
            self._write(result.title, "after", _after(f"pass {self._count}", result, self._before, graph))

    def _write(self, title: str, when: str, text: str) -> None:
        plain = re.sub(r"\W+", "-", title).strip("-")
        path = self.folder / f"{self._count:02}-{plain}.{when}.txt"
        try:
            write_text(path, f"{text}\n")
        except OSError as error:
            raise Q2Error(f"{self.called} {path}: cannot be written: {why(error)}") from error


def _after(numbered: str, result: PassResult, before: FactsBefore, graph: "Graph") -> str:
    from q2.graph.printing import graph_text
    from q2.passes.pipeline import pipeline_text

    changed, dropped = before.changed(graph), before.dropped(graph)
    words = [f"# after {numbered}, {result.title}: {pipeline_text([(result.step.name, result.step)])}"]
    words += ["# its facts were known: it was not run again"] if result.reused else []
    words += [f"# {result.report.summary}"]
    words += [f"# facts set: {', '.join(fact.name for fact in changed)}"] if changed else []
    words += [f"# facts dropped: {', '.join(dropped)}"] if dropped else []
    layers = result.report.changed if isinstance(result.report, Change) else ()
    if layers:
        more = f", … ({len(layers)} in all)" if len(layers) > _MOST else ""
        words += [f"# layers changed: {', '.join(layers[:_MOST])}{more}"]
    return "\n".join([*words, graph_text(graph, changed)])
