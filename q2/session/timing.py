"""Where the time of a transform goes: what is done beside the passes, the passes as a tree, and what facts cost."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from q2.passes import Instrument, Step, TextTable, Timing
from q2.passes.timing import PASSES, Timed

__all__ = ["Spent", "TimeSpent"]

_LEAST = 0.0005


@dataclass(frozen=True)
class TimeSpent:
    """The time of a run as a tree, and a table of what every fact cost."""

    tree: Timed
    facts: TextTable

    @property
    def data(self) -> dict[str, object]:
        """The same as plain data, for ``report.json``."""
        facts = [dict(zip(self.facts.headers, row, strict=True)) for row in self.facts.rows]
        return {"tree": self.tree.data, "facts": facts}

    @property
    def text(self) -> str:
        """The tree, a line for each part: title, seconds, share of the run."""
        lines = self.tree.lines()
        width = max(len(title) for title, _, _ in lines)
        return "\n".join(f"{title:<{width}}  {seconds:9.3f} s  {share:>6}" for title, seconds, share in lines)


@dataclass
class Spent:
    """Adds up seconds by what they were spent on, from when it is made; `show` shows a step and notes its time."""

    shown: Callable[[Step], None]
    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def show(self, step: Step) -> None:
        """Show a step of a run, and note its time."""
        self.on(step.title, step.seconds)
        self.shown(step)

    def on(self, title: str, seconds: float) -> None:
        """Note time."""
        if seconds > _LEAST:
            self.seconds[title] = self.seconds.get(title, 0.0) + seconds

    def passes(self) -> None:
        """Note that the passes run now, whose time the instrument knows."""
        self.seconds[PASSES] = 0.0

    def timing(self, instruments: Sequence[Instrument]) -> TimeSpent | None:
        """Return where the time went, if one of the instruments times passes."""
        timing = next((each for each in instruments if isinstance(each, Timing)), None)
        return TimeSpent(timing.tree(self.seconds, self.total), timing.facts()) if timing else None

    @property
    def total(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self.started
