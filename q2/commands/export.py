"""The command ``q2 export``: quantized weights for tools that do not know q2."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, drawn_progress, load_run, text_table
from q2.errors import ConfigError

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
    from q2.session.export import export as start
    from q2.session.transform import plugins_of

    run = load_run(config, override, recipe)
    with drawn_progress() as progress:
        done = start(saved or run, to, out, progress, plugins_of(run) if saved else None)
    for each in done.tables:
        text_table(each)
    print(f"written: {done.summary}")
