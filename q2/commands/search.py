"""``q2 search``: find a recipe, or compare strategies."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, opened, text_table
from q2.commands.modules import search_model
from q2.errors import ConfigError

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
        if override or trials or strategy or out or dry_run or config != DEFAULT:
            raise ConfigError(f"q2 search: options of {context.invoked_subcommand!r} stand behind its name")
        return
    with opened(config, [*_sets(override, trials), *([f"search.strategy={strategy}"] if strategy else [])]) as session:
        if session.settings.model.given:
            search_model(session, out, dry_run=dry_run)
            return
        from q2.session.problem import check_settings
        from q2.session.session import run_folder

        folder = run_folder(out, f"{session.title}-search")
        check_settings(session)  # before torch is imported
        if dry_run:
            from q2.session.plan import plan_search

            for step in plan_search(session, folder):
                print(f"{step.title:<12} {step.summary}")
                for table in step.tables:
                    text_table(table)
            return
        from q2.session.search import search as start

        print(f"q2 search · {session.run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
        outcome = start(session, folder)
    text_table(outcome.found.failures())
    text_table(outcome.found.table())
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")
    if why := outcome.found.why_none():
        print(why)
    else:
        bank = f" --set bank.path={outcome.bank}" if outcome.bank else ""
        print(f"next:    q2 transform --config {config} --recipe {folder / 'recipe.toml'}{bank}")


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
    titles = [name.strip() for name in strategies.split(",")]
    with opened(config, _sets(override, trials)) as session:
        from q2.session.problem import check_settings, strategies_of
        from q2.session.session import run_folder

        folder = run_folder(out, f"{session.title}-compare")
        check_settings(session, list(strategies_of(session, titles)))  # before torch is imported
        from q2.session.compare import compare as start

        print(f"q2 search compare · {session.run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
        outcome = start(session, titles, seeds, folder)
    print("mean ± half the 95 % interval over seeds")
    text_table(outcome.compared.table())
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")
    print(f"look at: {folder / 'compare.png'}")


def _sets(override: list[str] | None, trials: int | None) -> list[str]:
    return [*(override or ()), *([f"search.trials={trials}"] if trials else [])]
