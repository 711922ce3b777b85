"""How a transform is watched: the graph printed or kept around passes, and where the time goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from q2.commands.console import text_table
from q2.commands.screen import screen
from q2.errors import ConfigError

if TYPE_CHECKING:
    from q2.passes import Instrument
    from q2.session.session import Session
    from q2.session.timing import TimeSpent

__all__ = ["Watching"]


@dataclass(frozen=True)
class Watching:
    """The options ``--print-ir-after``, ``--dump`` and ``--timing``."""

    after: Sequence[str] = ()
    dump: Path | None = None
    timing: bool = False

    def instruments(self, session: "Session") -> "list[Instrument]":
        """Return what watches the passes of a session. Raises `ConfigError`, before anything is loaded."""
        from q2.passes import Dump, PrintAfter, Timing
        from q2.session.session import usable

        found: list[Instrument] = []
        if self.after:
            if screen().json:
                raise ConfigError("--print-ir-after: prints text, and --json nothing but JSON; --dump DIR keeps files")
            printing = PrintAfter(self.after, screen().result)
            printing.check(session.pass_names)
            found.append(printing)
        if self.dump:
            dumping = Dump(usable(self.dump, "--dump "))
            dumping.check()
            found.append(dumping)
        return [*found, Timing()] if self.timing else found

    def show(self, spent: "TimeSpent | None") -> None:
        """Print where the time went, and which files there are."""
        if spent:
            screen().say()
            screen().result(spent.text)
            screen().result()
            text_table(spent.facts, limit=None, result=True)
        if self.dump:
            screen().result(f"graphs:  {self.dump}/")
