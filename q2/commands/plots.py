"""``q2 plot``: pictures of a denoiser."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, load_run

__all__ = ["plots"]

plots = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Draw a denoiser.")


@plots.command()
def dag(
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Colour by this recipe instead of the run file's rules.")] = "",
    block: Annotated[str, typer.Option(help="Zoom in on one block: 3, or up_blocks.1.")] = "",
    out: Annotated[Path, typer.Option(help="The picture to write, .svg or .png.")] = Path("dag.svg"),
) -> None:
    """Draw the flow graph by units, or one block by layers; no weights are loaded."""
    run = load_run(config, override, recipe)
    from q2.runs import plot_dag, prepare

    print(f"{out}: {plot_dag(prepare(run), out, block)}")
