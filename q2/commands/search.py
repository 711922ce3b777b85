"""``q2 search``: find a recipe, or compare strategies."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, given, opened, paste, text_table
from q2.commands.screen import screen, shared
from q2.errors import ConfigError

if TYPE_CHECKING:
    from q2.session.search import SearchResult
    from q2.session.session import Session

__all__ = ["search"]

Trials = Annotated[int | None, typer.Option(min=1, help="How many.", show_default="the run file's")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; one that is there goes on.")]

search = typer.Typer(rich_markup_mode=None, help="Find a recipe, or compare strategies.")


@search.callback(invoke_without_command=True)
@shared
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
    show = screen()
    if context.invoked_subcommand is not None:
        if override or trials or strategy or out or dry_run or config != DEFAULT or show.quiet or show.json:
            raise ConfigError(f"q2 search: options of {context.invoked_subcommand!r} stand behind its name")
        return
    with opened(config, [*_sets(override, trials), *([f"search.strategy={strategy}"] if strategy else [])]) as session:
        from q2.session.problem import check_settings
        from q2.session.session import run_folder

        folder = run_folder(out, f"{session.title}-search")
        check_settings(session)  # before torch is imported
        if dry_run:
            _plan(session, folder)
            return
        from q2.session.search import search as start

        show.say(f"q2 search · {session.run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
        outcome = start(session, folder)
    show.report(outcome.report | {"folder": str(folder)})
    _found(outcome)
    if outcome.best is not None:
        bank = [f"bank.path={outcome.bank}"] if outcome.bank else []
        run = given(config, [*(override or ()), *bank])
        paste("transform", *run, "--recipe", folder / "recipe.toml", "--save", folder / "packed")


def _plan(session: "Session", folder: Path) -> None:
    """Print what a search would take."""
    from q2.session.plan import plan_search

    show, plan = screen(), plan_search(session, folder)
    show.report({step.title: step.summary for step in plan})
    for step in plan:
        show.result(show.wrap(f"{step.title:<12} ", step.summary))
        for table in step.tables:
            text_table(table, result=True)


def _found(outcome: "SearchResult") -> None:
    """Print what a search found: the front with the baselines, and what was chosen."""
    show, found, folder = screen(), outcome.found, outcome.folder
    show.say()
    text_table(found.failures())
    text_table(found.table(), limit=None, result=True)
    line = found.verdict() or found.why_none()
    show.result(show.wrap("", line))
    names = [file.name for file in outcome.files]
    fronts = [name for name in names if name.startswith("front-")]
    shown = [name for name in names if name not in fronts]
    if fronts:
        shown.insert(1, fronts[0] if len(fronts) == 1 else f"front-0 to {len(fronts) - 1}.toml")
    show.paths(f"written: {folder}/  ", [*shown, "log.txt"])


@search.command()
@shared
def compare(
    strategies: Annotated[str, typer.Option(help="Which, with commas: names, or tables of [search.strategies].")],
    config: Config = DEFAULT,
    override: Set = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many searches of each strategy.")] = 5,
    trials: Trials = None,
    out: Out = None,
) -> None:
    """Let strategies search with the same budget and seeds; what one has measured is not measured again."""
    titles, show = [name.strip() for name in strategies.split(",")], screen()
    with opened(config, _sets(override, trials)) as session:
        from q2.session.problem import check_settings, strategies_of
        from q2.session.session import run_folder

        folder = run_folder(out, f"{session.title}-compare")
        check_settings(session, list(strategies_of(session, titles)))  # before torch is imported
        from q2.session.compare import compare as start

        show.say(f"q2 search compare · {session.run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
        outcome = start(session, titles, seeds, folder)
    show.report(outcome.report | {"folder": str(folder)})
    show.say("\nmean ± half the 95 % interval over seeds")
    text_table(outcome.table, limit=None, result=True)
    show.paths(f"written: {folder}/  ", [file.name for file in outcome.files])
    show.result(f"look at: {folder / 'compare.png'}")


def _sets(override: list[str] | None, trials: int | None) -> list[str]:
    return [*(override or ()), *([f"search.trials={trials}"] if trials else [])]
