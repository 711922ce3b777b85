"""How a command shows what it does: quiet, verbose or as JSON, as wide as the terminal, in colour where it has some."""

import functools
import inspect
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from q2.tables import fitted

if TYPE_CHECKING:
    from q2.progress import Progress

__all__ = ["Screen", "screen", "shared"]

T = TypeVar("T")
_WIDTH, _ROWS, _INDENT = 100, 10, 2
_COLOURS = (
    ("green", re.compile(r"← chosen|^chosen: |: better$|: within noise\)?$")),
    ("magenta", re.compile(r"← not beaten|^baseline not beaten: |: beyond noise\)?$|: worse$")),
    ("red", re.compile(r"\bfailed: ")),
)
"""What a line means, by what is in it. Only colours of the terminal's own palette, so that they suit light and dark."""


@dataclass
class Screen:
    """What a command prints on: standard output for results, standard error for bars and mistakes."""

    quiet: bool = False
    verbose: bool = False
    json: bool = False
    _last: str = "?"

    @property
    def width(self) -> int:
        """How many columns there are: the terminal's or those of ``COLUMNS``, else 100."""
        return max(40, shutil.get_terminal_size((_WIDTH, 40)).columns)

    def say(self, text: str = "") -> None:
        """Print what is going on, unless results alone are wanted."""
        if not self.quiet:
            self.result(text)

    def result(self, text: str = "") -> None:
        """Print a result, unless JSON is wanted."""
        if not self.json:
            for line in text.split("\n"):
                if line or self._last:  # never two empty lines in a row
                    self._print(line)

    def wrapped(self, head: str, text: str) -> None:
        """Print a line of what is going on that may be long, its later lines below the first's text."""
        self.say(self.wrap(head, text))

    def paths(self, head: str, names: Iterable[object]) -> None:
        """Print a result of several words that may go over the end of a line, such as files."""
        self.result(self.wrap(head, "  ".join(map(str, names))))

    def wrap(self, head: str, text: str) -> str:
        """Return a text after a head, its later lines below the first's text."""
        lines = textwrap.wrap(text, max(20, self.width - len(head)), break_long_words=False, break_on_hyphens=False)
        return head + f"\n{' ' * len(head)}".join(lines or [""])

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        limit: int | None = None,
        rest: str = "",
        result: bool = False,
    ) -> None:
        """Print a table, two spaces in, no wider than the screen; nothing of one without rows.

        `limit` is how many rows there are at most unless all is wanted, `rest` says where the others are.
        """
        if not rows or self.json or (self.quiet and not result):
            return
        some = rows if limit is None or self.verbose or len(rows) <= limit + 1 else rows[:limit]
        for line in fitted(headers, some, self.width - _INDENT).splitlines():
            self._print(f"{' ' * _INDENT}{line}".rstrip())
        if len(some) < len(rows):
            self._print(f"{' ' * _INDENT}… {len(rows) - len(some)} more rows{f': {rest}' if rest else ''}")
        self._print("")

    def report(self, value: object) -> None:
        """Print a result as JSON, if that is wanted. NaN and infinity become null."""
        if self.json:
            from q2.files import plain

            sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False, default=str) + "\n")

    @contextmanager
    def working(self) -> "Iterator[Progress]":
        """Yield a progress function; on a terminal something moves from now on, and bars are drawn."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console, shown = Console(stderr=True), sys.stderr.isatty() and not self.quiet
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        # Results go to standard output, which may be a file: it is left alone unless both are the same terminal.
        together = sys.stdout.isatty()
        with Progress(*columns, console=console, transient=True, disable=not shown, redirect_stdout=together) as bars:
            idle, active = bars.add_task("working", total=None, count="", note=""), 0

            def draw(
                items: Iterable[T], label: str, total: int | None = None, note: Callable[[Any], str] | None = None
            ) -> Iterator[T]:
                nonlocal active
                of, active = "" if total is None else f"/{total}", active + 1
                bars.update(idle, visible=False)
                bar, done = bars.add_task(label, total=total, count=f"0{of}", note=""), 0
                try:
                    for item in items:
                        yield item
                        done += 1
                        bars.update(bar, advance=1, count=f"{done}{of}", note=note(item) if note else "")
                finally:
                    bars.remove_task(bar)
                    active -= 1
                    bars.update(idle, visible=not active)

            yield draw

    def _print(self, line: str) -> None:
        colour = next((name for name, sign in _COLOURS if sign.search(line)), None)
        if colour and sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
            line = typer.style(line, fg=colour)
        print(line)
        self._last = line


_CURRENT: ContextVar[Screen] = ContextVar("screen")


def screen() -> Screen:
    """Return the screen of the command that runs."""
    return _CURRENT.get(Screen())


_OPTIONS = {
    "quiet": Annotated[bool, typer.Option("-q", "--quiet", help="Print results alone.")],
    "verbose": Annotated[bool, typer.Option("-v", "--verbose", help="Print all rows and settings.")],
    "json": Annotated[bool, typer.Option("--json", help="Print the results as JSON, and nothing else.")],
}


def shared(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all of them have: ``-q``, ``-v`` and ``--json``."""

    @functools.wraps(function)
    def command(*args: Any, **given: Any) -> None:
        token = _CURRENT.set(Screen(**{name: given.pop(name, False) for name in _OPTIONS}))
        try:
            function(*args, **given)
        finally:
            _CURRENT.reset(token)

    signature = inspect.signature(function)
    more = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=False, annotation=kind)
        for name, kind in _OPTIONS.items()
    ]
    vars(command)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), *more])
    command.__annotations__ = function.__annotations__ | _OPTIONS
    return command
