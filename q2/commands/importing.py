"""``q2 import``: run files of other frameworks."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import paste
from q2.commands.screen import screen, shared
from q2.errors import ConfigError

__all__ = ["importing"]

importing = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read run files of other frameworks.")


@importing.callback()
def root() -> None:
    """Read run files of other frameworks."""


@importing.command()
@shared
def mase(
    file: Annotated[Path, typer.Argument(help="A run file of MASE's.")],
    out: Annotated[Path | None, typer.Option(help="The run file to write.", show_default="FILE.q2.toml")] = None,
) -> None:
    """Turn a run file of MASE's into q2's, and say what became of every key."""
    from q2.compat.mase.run_file import imported
    from q2.files import write_text

    found = imported(file)
    place = out or file.with_suffix(".q2.toml")
    if place.exists():
        raise ConfigError(f"--out {place}: is there already")
    write_text(place, found.text)
    show = screen()
    show.report({"file": str(place), "keys": dict(found.rows)})
    for key, what in found.rows:
        show.result(show.wrap(f"{key}  ", what))
    show.result(f"written: {place}")
    paste("transform", "--config", place)
