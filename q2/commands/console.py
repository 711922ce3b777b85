"""What every command does with a run file: read it, open a session, print its steps, and say what to do next."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2.commands.screen import screen
from q2.errors import ConfigError, RecipeError

if TYPE_CHECKING:
    from q2.config import RunFile
    from q2.passes import Step, TextTable
    from q2.session.session import Session

__all__ = [
    "DEFAULT",
    "Config",
    "Set",
    "check_recipe",
    "given",
    "load_run",
    "opened",
    "paste",
    "print_step",
    "print_trial",
    "session_of",
    "text_table",
]

DEFAULT = "digits-dit.toml"
_ROWS = 6


def _run_files(incomplete: str) -> list[str]:
    from q2.config import shipped

    return [name for name in (*shipped(), *map(str, Path().glob("*.toml"))) if name.startswith(incomplete)]


Config = Annotated[
    str, typer.Option("--config", help="A run file, or the name of a shipped one.", autocompletion=_run_files)
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting; repeatable.")]


def load_run(config: str, override: list[str] | None, recipe: str = "", passes: str = "") -> "RunFile":
    """Read a run file; `passes` take the place of its own, a recipe that of its rules. Raises `ConfigError`."""
    from q2.config import RunFile

    run = RunFile.load(config, override or ())
    if passes:
        from q2.passes import with_pipeline

        run = with_pipeline(run, passes)
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
def opened(config: str, override: list[str] | None, recipe: str = "", passes: str = "") -> "Iterator[Session]":
    """Yield the session of a run file, which draws progress and prints what it does. Raises `ConfigError`."""
    with session_of(load_run(config, override, recipe, passes)) as session:
        yield session


@contextmanager
def session_of(run: "RunFile") -> "Iterator[Session]":
    """Yield the session of a run, which draws progress and prints what it does. Raises `ConfigError`."""
    from q2.session.session import Session

    with screen().working() as progress:
        yield Session(run, progress, print_step, print_trial)


def given(config: str, override: list[str] | None, *, searches: bool = False) -> list[str]:
    """Return the arguments that name a run file with its overrides, for a command that follows it.

    What is said of the search is left out unless the command `searches`.
    """
    file = [] if config == DEFAULT else ["--config", config]
    kept = [each for each in override or () if searches or not each.lstrip().startswith("search.")]
    sets = [part for each in kept for part in ("--set", each)]
    return [*file, *sets]


def paste(*words: object) -> None:
    """Print the command to run next, so that it can be pasted into a shell, whatever is in its words."""
    screen().say(f"next:    {shlex.join(['q2', *map(str, words)])}")


def print_step(step: "Step") -> None:
    """Print what a run did."""
    shown = screen()
    shown.wrapped(f"{step.title:<12} {step.seconds:6.1f} s   ", _near(step.summary))
    for table in step.tables:
        if shown.verbose or not _is_counts(table):
            text_table(table)


def _near(text: str) -> str:
    """Return a text whose paths are short: from the working folder, or from q2's own."""
    package = Path(__file__).parents[1]
    return text.replace(f"{Path.cwd()}/", "").replace(f"{package}/", "q2/")


def _is_counts(table: "TextTable") -> bool:
    """Return whether a table only counts things, which are in ``report.json`` and seldom looked for."""
    return len(table.headers) == 2 and all(isinstance(row[1], int) for row in table.rows)


def print_trial(line: str) -> None:
    """Print the line of a trial where no bar says it: off a terminal."""
    import sys

    if not sys.stderr.isatty():
        screen().say(line)
        sys.stdout.flush()


def text_table(table: "TextTable", *, limit: int | None = _ROWS, result: bool = False) -> None:
    """Print a table of a run, its first rows; ``-v`` shows all."""
    screen().table(table.headers, table.rows, limit=limit, rest="-v shows them", result=result)
