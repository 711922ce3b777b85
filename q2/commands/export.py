"""The command ``q2 export``: quantized weights for tools that do not know q2."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, opened, text_table
from q2.commands.screen import screen
from q2.errors import ConfigError
from q2.exporters.kinds import EXPORTERS

__all__ = ["export"]


def export(
    to: Annotated[str, typer.Option(help="The format: dequantized, gguf, or a plugin's.")],
    out: Annotated[Path, typer.Option(help="The folder or file to write.")],
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Apply this recipe instead of the run file's rules.")] = "",
    saved: Annotated[Path | None, typer.Option("--from", help="A folder that q2 transform --save made.")] = None,
) -> None:
    """Write a quantized denoiser in another format: of a run file, with a recipe, or of a saved folder.

    Beside --from, --config says which plugins there are.
    """
    if saved and (recipe or override):
        raise ConfigError("--from names a folder that is quantized already; leave out --recipe and --set")
    with opened(config, override, recipe) as session:
        session.plugins.of(EXPORTERS).find(to)  # before torch is imported
        from q2.session.export import export as start

        done = start(session, to, out, saved)
    for each in done.tables:
        text_table(each, result=True)
    screen().report({"out": str(out), "summary": done.summary})
    screen().result(f"written: {done.summary}")
