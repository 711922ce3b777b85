"""``q2 search``: find a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, drawn_progress, load_run, print_step, text_table

__all__ = ["search"]


def search(
    config: Config = DEFAULT,
    override: Set = None,
    trials: Annotated[int | None, typer.Option(min=1, help="How many.", show_default="the run file's")] = None,
    strategy: Annotated[str, typer.Option(help="Which strategy.", show_default="the run file's")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder of the run; one that is there goes on.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and write nothing.")] = False,
) -> None:
    """Measure recipes, and keep the best and the front; a search that was stopped goes on where it was."""
    sets = [*(override or ()), *([f"search.trials={trials}"] if trials else [])]
    run = load_run(config, [*sets, *([f"search.strategy={strategy}"] if strategy else [])])
    from q2.runs import prepare, run_folder
    from q2.searching import search as start

    plan = prepare(run)
    if dry_run:
        from q2.estimate import estimate

        for step in estimate(plan):
            print(f"{step.title:<12} {step.summary}")
            for table in step.tables:
                text_table(table)
        return
    folder = run_folder(out, f"{plan.title}-search")
    print(f"q2 search · {run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
    with drawn_progress() as progress:
        outcome = start(plan, folder, progress=progress, show=print_step)
    text_table(outcome.found.table())
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")
    if outcome.found.best is None:
        print("no trial keeps to the constraints; next: more trials")
    else:
        print(f"next:    q2 transform --config {config} --recipe {folder / 'recipe.toml'}")
