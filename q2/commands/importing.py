"""``q2 import``: run files and data of other frameworks."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import paste
from q2.commands.screen import screen, shared
from q2.errors import ConfigError

__all__ = ["importing"]

importing = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Read run files and data of other frameworks."
)


@importing.callback()
def root() -> None:
    """Read run files and data of other frameworks."""


@importing.command()
@shared
def mase(
    file: Annotated[Path, typer.Argument(help="A run file of MASE's.")],
    out: Annotated[Path | None, typer.Option(help="The run file to write.", show_default="FILE.q2.toml")] = None,
) -> None:
    """Convert a run file of MASE to q2, and list the counterpart of every key."""
    from q2.compat.mase.run_file import imported
    from q2.files import write_text

    found = imported(file)
    place = out or file.with_suffix(".q2.toml")
    if place.exists():
        raise ConfigError(f"--out {place}: already exists")
    write_text(place, found.text)
    show = screen()
    show.report({"file": str(place), "keys": dict(found.rows)})
    for key, what in found.rows:
        show.result(show.wrap(f"{key}  ", what))
    show.result(f"written: {place}")
    paste("transform", "--config", place)


@importing.command()
@shared
def autobuild(
    file: Annotated[Path, typer.Argument(help="A cache of AutoBuild's: ofa_mbv3_custom_cache.pkl.")],
    out: Annotated[Path | None, typer.Option(help="The graphs to write.", show_default="FILE.json")] = None,
) -> None:
    """Turn a cache of AutoBuild's architectures into a JSON file of graphs; nothing in the pickle is called."""
    import json

    from q2.files import write_text
    from q2.search.predictor.autobuild import read_autobuild

    place = out or file.with_suffix(".json")
    if place.exists():
        raise ConfigError(f"--out {place}: already exists")
    found, lacking = read_autobuild(file)
    graphs = found["graphs"]
    lines = ",\n".join(json.dumps(graph, separators=(",", ":")) for graph in graphs)
    write_text(place, f'{{"graphs": [\n{lines}\n]}}\n')
    show = screen()
    metrics = list(graphs[0]["metrics"])
    show.report({"file": str(place), "graphs": len(graphs), "metrics": metrics, "left_out": list(lacking)})
    nodes = [len(graph["nodes"]) for graph in graphs]
    show.result(f"{len(graphs)} graphs of {min(nodes)} to {max(nodes)} nodes, with {', '.join(metrics)}")
    if lacking:
        show.result(f"left out, as some architecture lacks them: {', '.join(lacking)}")
    show.result(f"written: {place}")
    paste("predictor", "train", "--graphs", place)
