"""What every command does with a console: read a run file, draw progress, print tables. The only place that prints."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from q2.errors import ConfigError, RecipeError
from q2.tables import drawn

if TYPE_CHECKING:
    from q2.config import RunFile
    from q2.passes import Step, TextTable
    from q2.progress import Progress
    from q2.session.session import Session

__all__ = [
    "DEFAULT",
    "Config",
    "Set",
    "check_recipe",
    "drawn_progress",
    "load_run",
    "opened",
    "print_step",
    "print_table",
    "text_table",
]

T = TypeVar("T")
DEFAULT = "digits-dit.toml"
Config = Annotated[str, typer.Option("--config", help="A run file, or the name of a shipped one.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting; repeatable.")]


def load_run(config: str, override: list[str] | None, recipe: str = "") -> "RunFile":
    """Read a run file; a recipe takes the place of its rules. Raises `ConfigError`."""
    from q2.config import RunFile

    run = RunFile.load(config, override or ())
    if not recipe:
        return run
    check_recipe(recipe)
    return run.with_recipe(Path(recipe))


def check_recipe(recipe: str) -> None:
    """Raise `ConfigError` for a recipe that cannot be read; no torch is imported for it."""
    from q2.quant import Recipe

    try:
        Recipe.load(recipe)
    except RecipeError as error:
        raise ConfigError(f"--recipe {error}") from error


@contextmanager
def opened(config: str, override: list[str] | None, recipe: str = "") -> "Iterator[Session]":
    """Yield the session of a run file, which draws progress and prints what it does. Raises `ConfigError`."""
    run = load_run(config, override, recipe)
    from q2.session.session import Session

    with drawn_progress() as progress:
        yield Session(run, progress, print_step)


def print_step(step: "Step") -> None:
    """Print what a run did."""
    print(f"{step.title:<12} {step.seconds:6.1f} s   {step.summary}\n")
    for table in step.tables:
        text_table(table)


def text_table(table: "TextTable") -> None:
    """Print a pass's table, its first rows."""
    limit = 40
    print_table([list(row) for row in table.rows[:limit]], list(table.headers))
    if len(table.rows) > limit:
        print(f"  … {len(table.rows) - limit} more rows\n")


def print_table(rows: list[list[str | int | float]] | list[list[str]], headers: list[str]) -> None:
    """Print a table, two spaces in; nothing of one without rows."""
    if not rows:
        return
    text = drawn(headers, rows, limit=None)
    print("\n".join(f"  {line}" for line in text.splitlines()) + "\n")


@contextmanager
def drawn_progress() -> "Iterator[Progress]":
    """Yield a progress function that draws bars on a terminal and is silent elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console, shown = Console(stderr=True), sys.stderr.isatty()
    # Results go to standard output, which may be a file: it is left alone unless both are the same terminal.
    with Bars(console=console, transient=True, disable=not shown, redirect_stdout=sys.stdout.isatty()) as bars:

        def draw(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
            bar = bars.add_task(label, total=total)
            try:
                for item in items:
                    yield item
                    bars.advance(bar)
            finally:
                bars.remove_task(bar)

        yield draw
