"""Where the time of a run goes: a tree of passes, each below the one that required it, and what every fact cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from q2.graph import Fact, Origin
from q2.passes.base import Pass, TextTable
from q2.passes.instruments import FactsBefore, Instrument
from q2.passes.result import PassResult

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["PASSES", "Timed", "Timing"]

PASSES = "passes"
_REST = "everything else"


@dataclass(frozen=True)
class Timed:
    """Something that took time, with what is part of it. `seconds` are those of all of it."""

    title: str
    seconds: float
    parts: "tuple[Timed, ...]" = ()
    note: str = ""

    @property
    def data(self) -> dict[str, object]:
        """The same as plain data."""
        parts = {"parts": [each.data for each in self.parts]} if self.parts else {}
        return {"title": self.title, "seconds": round(self.seconds, 4), **parts}

    def lines(self, total: float | None = None, head: str = "", tail: str = "") -> list[tuple[str, float, str]]:
        """Return a line for it and for every part: its place in the tree, seconds, and the share of all."""
        whole = self.seconds if total is None else total
        share = f"{100 * self.seconds / whole:.1f}%" if whole else "–"
        found = [(f"{head}{self.title}", self.seconds, f"{share}{f'  {self.note}' if self.note else ''}")]
        for number, part in enumerate(self.parts):
            last = number == len(self.parts) - 1
            found += part.lines(whole, f"{tail}{'└─ ' if last else '├─ '}", f"{tail}{'   ' if last else '│  '}")
        return found


@dataclass
class _Cost:
    origin: Origin
    seconds: float
    reused: int = 0


@dataclass
class Timing(Instrument):
    """Times passes, and what they require. `tree` and `facts` say what was found."""

    _results: list[PassResult] = field(default_factory=list, init=False)
    _before: FactsBefore | None = field(default=None, init=False)
    _costs: dict[Fact[Any], list[_Cost]] = field(default_factory=dict, init=False)
    _graph: "Graph | None" = field(default=None, init=False)

    def before(self, title: str, step: Pass, graph: "Graph") -> None:
        """Remember the facts."""
        self._before = FactsBefore(graph)

    def after(self, result: PassResult, graph: "Graph") -> None:
        """Keep how long the pass took, and which facts it made for that."""
        self._results.append(result)
        self._graph = graph
        if result.reused:
            for fact in getattr(type(result.step), "provides", ()):
                for cost in self._costs.get(fact, [])[-1:]:
                    cost.reused += 1
        elif self._before is not None:
            for fact in self._before.changed(graph):
                origin = graph.facts.origin(fact)
                if origin:
                    self._costs.setdefault(fact, []).append(_Cost(origin, result.seconds))

    def tree(self, others: Mapping[str, float] | None = None, total: float | None = None) -> Timed:
        """Return the passes as a tree, or a run of `total` seconds with them in it.

        `others` are things beside the passes that took seconds, in the order in which they were done; `PASSES` among
        them says where the passes stood.
        """
        passes = self._passes()
        tree = Timed(PASSES, sum(each.seconds for each in passes), tuple(passes))
        if total is None:
            return tree
        parts = [tree if title == PASSES else Timed(title, seconds) for title, seconds in (others or {}).items()]
        parts += [] if tree in parts else [tree]
        rest = total - sum(part.seconds for part in parts)
        return Timed("run", total, (*parts, Timed(_REST, max(0.0, rest))))

    def _passes(self) -> list[Timed]:
        """Return the run's own passes; the passes that they required, which ran before, are their parts."""
        waiting: dict[str, list[Timed]] = {}
        found: list[Timed] = []
        for result in self._results:
            parts = tuple(waiting.pop(result.title, ()))
            seconds = result.seconds + sum(part.seconds for part in parts)
            title = result.step.name if result.needed_by else result.title
            timed = Timed(title, seconds, parts, "known already" if result.reused else "")
            (waiting.setdefault(result.needed_by, []) if result.needed_by else found).append(timed)
        return found + [each for left in waiting.values() for each in left]

    def facts(self) -> TextTable:
        """Return a table of the facts: which pass made each, in how many seconds, and which passes read it."""
        rows = [
            (fact.name, str(cost.origin), cost.seconds, ", ".join(self._readers(cost.origin)) or "–", cost.reused)
            for fact, costs in self._costs.items()
            for cost in costs
        ]
        return TextTable(("fact", "made by", "seconds", "read by", "times reused"), tuple(rows))

    def _readers(self, origin: Origin) -> Sequence[str]:
        return () if self._graph is None else self._graph.facts.readers(origin)
