"""``q2 predictor``: train the predictor on trials, and label every layer and unit with it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, given, load_run, paste, print_step, text_table
from q2.commands.labels import build, reduce, show
from q2.commands.screen import screen, shared

__all__ = ["Attention", "Embedding", "Loss", "predictor"]

predictor = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Learn from trials what every layer wants.")
for command in (build, show, reduce):
    predictor.command()(shared(command))


class Loss(StrEnum):
    """What the predictor minimizes beside the squared error."""

    srcc = "srcc"
    ndcg = "ndcg"
    hybrid = "hybrid"


class Embedding(StrEnum):
    """How a node's features are embedded."""

    plain = "plain"
    fe_mlp = "fe-mlp"


class Attention(StrEnum):
    """Which code passes messages between nodes."""

    auto = "auto"
    fused = "fused"
    pyg = "pyg"


@predictor.command()
@shared
def train(
    config: Config = DEFAULT,
    override: Set = None,
    trials: Annotated[Path | None, typer.Option(help="A search's folder, or its trial store.")] = None,
    graphs: Annotated[Path | None, typer.Option(help="A JSON file of graphs instead of trials.")] = None,
    target: Annotated[str, typer.Option(help="What to predict.", show_default="the search's target")] = "",
    loss: Annotated[Loss, typer.Option(help="What is minimized beside the squared error.")] = Loss.hybrid,
    embedding: Annotated[Embedding, typer.Option(help="fe-mlp is what q2 plot importance reads.")] = Embedding.plain,
    folds: Annotated[int, typer.Option(min=2, help="How many.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds and the weights.")] = 12345,
    jobs: Annotated[int, typer.Option(min=1, help="Folds at a time.")] = 1,
    device: Annotated[str, typer.Option(help="Where it trains; auto: on CUDA where there is one.")] = "auto",
    attention: Annotated[Attention, typer.Option(help="Of a CPU q2's fused kernel, or PyG's code.")] = Attention.auto,
    out: Annotated[Path | None, typer.Option(help="Folder.", show_default="predictor, beside the trials")] = None,
) -> None:
    """Train a predictor on a search's trials, and say how well it ranks what it has not seen."""
    from q2.errors import ConfigError

    if (trials is None) == (graphs is None):
        raise ConfigError("--trials or --graphs: expected one of them: a search's folder, or a JSON file of graphs")
    run = load_run(config, override)
    from q2.session.session import Session, run_folder

    if out is not None:
        run_folder(out, "")
    with screen().working() as progress:
        session = Session(run, progress, print_step)  # what is wrong in the run file: before torch is imported
        from q2.search.predictor.tables import fold_tables
        from q2.search.predictor.train import Training
        from q2.session.predict import fit_graphs, fit_trials

        training = Training(
            loss.value,
            embedding.value,
            folds=folds,
            epochs=epochs,
            seed=seed,
            device=device,
            attention=attention.value,
        )
        if graphs is not None:
            fit = fit_graphs(graphs, training, target=target, out=out, jobs=jobs, progress=progress, show=print_step)
        else:
            assert trials is not None
            fit = fit_trials(session, trials, training, target=target, out=out, jobs=jobs)
    for table in fold_tables(fit.trained, fit.others):
        text_table(table, result=True)
    screen().report({"folder": str(fit.folder), "target": fit.trained.target})
    screen().paths(f"written: {fit.folder}/  ", ["predictor.safetensors", "predictor.json"])
    if graphs is None:
        paste("predictor", "label", *given(config, override), "--predictor", fit.folder)
    else:
        paste("predictor", "explain", "--predictor", fit.folder)


@predictor.command()
@shared
def explain(
    predictor: Annotated[Path, typer.Option(help="The folder that q2 predictor train wrote.")],
) -> None:
    """Show what a predictor learned: what features add (fe-mlp), the moments of every hop, and of graphs' units."""
    from q2.session.graphs import explain as read

    found = read(predictor)
    screen().report({"tables": {name: [list(table.headers), *map(list, table.rows)] for name, table in found.items()}})
    for table in found.values():
        text_table(table, result=True)


@predictor.command()
@shared
def label(
    predictor: Annotated[Path, typer.Option(help="The folder that q2 predictor train wrote.")],
    config: Annotated[str, typer.Option("--config", help="A run file: is its denoiser the predictor's?")] = "",
    override: Set = None,
    top: Annotated[int, typer.Option(min=0, help="Of graphs: the best modules of each unit to keep; 0: all.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The file.", show_default="labels.npz in its folder")] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="What the pass sensitivity measured: do the labels agree?", show_default="the run's, if any"),
    ] = None,
) -> None:
    """Score every option of every layer, and every variant of every unit; say which are most sensitive.

    Of a predictor of graphs: score every module that nodes name as a unit, and write modules.json.
    """
    run = load_run(config, override) if config else None
    if (predictor / "graphs.npz").exists():
        _label_modules(predictor, top, out)
        return
    from q2.session.session import Session

    session = Session(run) if run else None
    from q2.search.predictor.agreement import agreement
    from q2.search.predictor.tables import sensitivity_tables
    from q2.session.measured import find_measured
    from q2.session.predict import make_labels

    measured = find_measured(predictor, sensitivity)
    with screen().working() as progress:
        labels, path = make_labels(predictor, out, session=session, progress=progress)
    variants = sum(len(unit.variants) for unit in labels.units)
    layers, options = labels.nodes.shape[:2]
    show = screen()
    show.report({"file": str(path), "layers": layers, "options": options, "variants": variants})
    show.say(f"{layers} layers with {options} options, {variants:,} variants of {len(labels.units)} units\n")
    for table in sensitivity_tables(labels):
        text_table(table, result=True)
    if measured is not None:
        truth, source = measured
        found = agreement(labels, truth)
        show.report({"measured": str(source), "spearman": found.spearman.value, "found": found.found / found.most})
        text_table(found.table(), result=True)
        if found.warning():
            show.result(f"warning: {found.warning()}")
    show.result(f"written: {path}")
    paste("predictor", "build", "--labels", path)


def _label_modules(folder: Path, top: int, out: Path | None) -> None:
    """Score the modules of a predictor of graphs, and print the best of every unit."""
    from q2.search.predictor.tables import module_table
    from q2.session.graphs import make_modules

    with screen().working() as progress:
        modules, path = make_modules(folder, out, top=top, progress=progress)
    counts = {unit: len(found) for unit, found in modules.units.items()}
    show = screen()
    show.report({"file": str(path), "modules": counts})
    show.say(f"{sum(counts.values()):,} modules of {len(counts)} units; scores are {modules.target}\n")
    text_table(module_table(modules), result=True)
    show.result(f"written: {path}")
    paste("plot", "graph", "--predictor", folder)
