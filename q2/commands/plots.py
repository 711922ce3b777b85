"""``q2 plot``: pictures of a denoiser, of an evaluation, and of what a predictor says."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, opened
from q2.commands.screen import screen, shared

__all__ = ["By", "Source", "Statistic", "plots"]

plots = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Draw a denoiser, an evaluation, and what a predictor says."
)
Labels = Annotated[Path, typer.Option("--labels", help="What q2 predictor label wrote, or its folder.")]
Folder = Annotated[Path, typer.Option("--out", help="Folder for the PNG, the SVG and the numbers as CSV.")]


class By(StrEnum):
    """What boxes stand for."""

    block = "block"
    unit = "unit"
    layer = "layer"


class Statistic(StrEnum):
    """Which number of a unit or layer a box is over."""

    all = "all"
    max = "max"
    min = "min"
    mean = "mean"
    std = "std"


class Source(StrEnum):
    """Whose best option bars count."""

    nodes = "nodes"
    units = "units"


@plots.command()
@shared
def dag(
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Colour by this recipe instead of the run file's rules.")] = "",
    labels: Annotated[
        Path | None, typer.Option(help="Colour by how sensitive layers are, by these labels or measurements (.json).")
    ] = None,
    block: Annotated[str, typer.Option(help="Zoom in on one block: 3, or up_blocks.1.")] = "",
    out: Annotated[Path, typer.Option(help="The picture to write, .svg or .png.")] = Path("dag.svg"),
) -> None:
    """Draw the flow graph by units, or one block by layers; no weights are loaded."""
    with opened(config, override, recipe) as session:
        from q2.session.plot import plot_dag

        scores = None
        if labels is not None:
            from q2.session.predict import read_sensitivities

            scores = read_sensitivities(labels)
        line = plot_dag(session, out, block, scores)
    screen().report({"file": str(out), "summary": line})
    screen().result(f"{out}: {line}")


@plots.command()
@shared
def box(
    labels: Labels,
    by: Annotated[By, typer.Option(help="A box for every block, type of unit, or type of layer.")] = By.unit,
    statistic: Annotated[Statistic, typer.Option(help="Of each unit or layer all scores, or one number.")] = (
        Statistic.all
    ),
    out: Folder = Path(),
) -> None:
    """Draw the spread of scores by block, type of unit or type of layer."""
    from q2.search.predictor.plots import box as draw
    from q2.session.predict import read_labels

    space, found = read_labels(labels)
    name = f"box-{by}" if statistic is Statistic.all else f"box-{by}-{statistic}"
    _said(draw(space, found, by.value, statistic.value).save(out, name))


@plots.command()
@shared
def bar(
    labels: Labels,
    source: Annotated[Source, typer.Option("--from", help="Layers alone, or units' best variants.")] = Source.nodes,
    out: Folder = Path(),
) -> None:
    """Draw, by type of layer, which option is best for how many of them."""
    from q2.search.predictor.plots import bar as draw
    from q2.session.predict import read_labels

    space, found = read_labels(labels)
    _said(draw(space, found, source.value).save(out, f"bar-{source}"))


@plots.command()
@shared
def importance(
    predictor: Annotated[Path, typer.Option(help="A predictor trained with --embedding fe-mlp.")],
    out: Folder = Path(),
) -> None:
    """Draw what every value of every feature adds to a node's score (FE-MLP)."""
    from q2.search.predictor.plots import importance as draw
    from q2.search.predictor.trained import Trained

    _said(draw(Trained.load(predictor)).save(out, "importance"))


@plots.command()
@shared
def graph(
    predictor: Annotated[Path, typer.Option(help="The folder that q2 predictor train --graphs wrote.")],
    graph: Annotated[str, typer.Option(help="Its number; best: with the highest target; predicted: prediction.")] = (
        "best"
    ),
    out: Folder = Path(),
) -> None:
    """Draw a graph at every hop, its nodes coloured by how large their embeddings are."""
    from q2.session.graphs import draw_graph

    index, paths = draw_graph(predictor, graph, out)
    screen().report({"graph": index, "files": [str(path) for path in paths]})
    screen().paths(f"graph {index}, written: ", paths)


@plots.command()
@shared
def sensitivity(
    file: Annotated[Path, typer.Option("--file", help="What the pass sensitivity measured, or a run's folder.")],
    out: Folder = Path(),
) -> None:
    """Draw what was measured with each layer alone: noise to signal, by layer and option."""
    from q2.quant.sensitivity import SensitivityTable
    from q2.search.predictor.measured_plot import measured

    table = SensitivityTable.load(file / "sensitivity.json" if file.is_dir() else file)
    _said(measured(table).save(out, "sensitivity"))


@plots.command()
@shared
def evaluation(
    file: Annotated[Path, typer.Option("--file", help="The folder that q2 evaluate --out wrote.")],
    out: Folder = Path(),
) -> None:
    """Draw the metrics of recipes that were evaluated, with intervals and what beats the first."""
    from q2.report.evaluation_plot import evaluation_plot
    from q2.report.folder import RunFolder

    _said(evaluation_plot(RunFolder(file)).save(out, "evaluation"))


def _said(paths: tuple[Path, ...]) -> None:
    screen().report({"files": [str(path) for path in paths]})
    screen().paths("written: ", paths)
