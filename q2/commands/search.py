"""``q2 search``: find a recipe, or compare strategies."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, drawn_progress, load_run, print_step, text_table

__all__ = ["search"]

Trials = Annotated[int | None, typer.Option(min=1, help="How many.", show_default="the run file's")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; one that is there goes on.")]

search = typer.Typer(rich_markup_mode=None, help="Find a recipe, or compare strategies.")


@search.callback(invoke_without_command=True)
def find(
    context: typer.Context,
    config: Config = DEFAULT,
    override: Set = None,
    trials: Trials = None,
    strategy: Annotated[str, typer.Option(help="Which strategy.", show_default="the run file's")] = "",
    out: Out = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and write nothing.")] = False,
) -> None:
    """Measure recipes, and keep the best and the front; a search that was stopped goes on where it was."""
    if context.invoked_subcommand is not None:
        return
    run = load_run(config, [*_sets(override, trials), *([f"search.strategy={strategy}"] if strategy else [])])
    from q2.session.search import search as start
    from q2.session.transform import prepare, run_folder

    plan = prepare(run)
    if dry_run:
        from q2.session.plan import estimate

        for step in estimate(plan):
            print(f"{step.title:<12} {step.summary}")
            for table in step.tables:
                text_table(table)
        return
    folder = run_folder(out, f"{plan.title}-search")
    print(f"q2 search · {run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
    with drawn_progress() as progress:
        outcome = start(plan, folder, progress=progress, show=print_step)
    text_table(outcome.found.failures())
    text_table(outcome.found.table())
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")
    if why := outcome.found.why_none():
        print(why)
    else:
        print(f"next:    q2 transform --config {config} --recipe {folder / 'recipe.toml'}")


@search.command()
def compare(
    strategies: Annotated[str, typer.Option(help="Which, with commas: names, or tables of [search.strategies].")],
    config: Config = DEFAULT,
    override: Set = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many searches of each strategy.")] = 5,
    trials: Trials = None,
    out: Out = None,
) -> None:
    """Let strategies search with the same budget and seeds; what one has measured is not measured again."""
    run = load_run(config, _sets(override, trials))
    from q2.session.compare import compare as start
    from q2.session.transform import prepare, run_folder

    plan = prepare(run)
    folder = run_folder(out, f"{plan.title}-compare")
    print(f"q2 search compare · {run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
    titles = [name.strip() for name in strategies.split(",")]
    with drawn_progress() as progress:
        outcome = start(plan, titles, seeds, folder, progress=progress, show=print_step)
    print("mean ± half the 95 % interval over seeds")
    text_table(outcome.compared.table())
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")
    print(f"look at: {folder / 'compare.png'}")


def _sets(override: list[str] | None, trials: int | None) -> list[str]:
    return [*(override or ()), *([f"search.trials={trials}"] if trials else [])]
