"""``q2 import``: run files of other frameworks."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import print_table
from q2.errors import ConfigError

__all__ = ["importing"]

importing = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Read run files of other frameworks.")


@importing.callback()
def root() -> None:
    """Read run files of other frameworks."""


@importing.command()
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
    print_table([list(row) for row in found.rows], ["MASE", "q2"])
    print(f"written: {place}")
    print(f"next:    q2 transform --config {place}")
