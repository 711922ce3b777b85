"""``q2 report``: one HTML file about runs, to hand on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from q2.commands.console import opened
from q2.commands.screen import screen
from q2.errors import Q2Error

__all__ = ["report"]


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of a transform, search, comparison, evaluation or samples.", show_default=False),
    ],
    out: Annotated[Path | None, typer.Option(help="The file.", show_default="report.html in the first folder")] = None,
    graph: Annotated[bool, typer.Option(help="Draw the flow graph, coloured by the recipe's bits.")] = True,
) -> None:
    """Write one HTML file about runs, which opens without a network."""
    from q2.report import RunFolder, write_report

    path = out or runs[0] / "report.html"
    for run in runs:
        _ = RunFolder(run).kind  # a wrong folder is said before anything is drawn
    with _drawn(runs if graph else ()) as graphs:
        size = write_report(runs, path, graphs)
    screen().report({"file": str(path), "bytes": size})
    screen().result(f"written: {path}, {size / 1e6:.2f} MB")


@contextmanager
def _drawn(runs: Sequence[Path]) -> Iterator[dict[Path, Path]]:
    """Yield the flow graph's picture of each run that has a recipe, and say why where there is none."""
    with TemporaryDirectory() as folder:
        found = {}
        for number, run in enumerate(runs):
            settings, recipe, picture = run / "effective.toml", run / "recipe.toml", Path(folder) / f"{number}.svg"
            if not (settings.exists() and recipe.exists()):
                continue
            try:
                with opened(str(settings), None, str(recipe)) as session:
                    from q2.session.plot import plot_dag

                    plot_dag(session, picture)
            except Q2Error as error:
                screen().say(f"{run}: no flow graph: {error}")
            else:
                found[run] = picture
        yield found
