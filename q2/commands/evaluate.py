"""``q2 evaluate``: given recipes, measured with the metrics of a search and compared in pairs."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, check_recipe, given, opened, paste, text_table
from q2.commands.screen import screen
from q2.errors import ConfigError
from q2.search.kinds import METRICS

__all__ = ["evaluate"]


def evaluate(
    recipe: Annotated[list[str] | None, typer.Option(help="A recipe, a TOML file; repeatable.")] = None,
    saved: Annotated[
        list[Path] | None, typer.Option("--from", help="A folder that q2 transform --save wrote; repeatable.")
    ] = None,
    config: Config = DEFAULT,
    override: Set = None,
    metric: Annotated[list[str] | None, typer.Option(help="A metric beside the run's; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep full precision's images here, for the next.")] = None,
) -> None:
    """Measure given recipes with the metrics of a search; each is compared with the first, from the same noise."""
    recipes = list(dict.fromkeys(recipe or ()))
    if not recipes and not saved:
        raise ConfigError("--recipe or --from: expected one or more")
    with opened(config, override) as session:
        from q2.session.session import run_folder

        folder = run_folder(out, "") if out else None
        for each in recipes:
            check_recipe(each)  # what can be said before torch is imported
        for name in metric or ():
            session.plugins.of(METRICS).find(name)
        from q2.session.evaluate import evaluate_all

        found = evaluate_all(session, {each: each for each in recipes}, saved or (), metric or (), folder)
    show = screen()
    show.report(found.report)
    show.say()
    text_table(found.table, limit=None, result=True)
    text_table(found.compared, limit=None, result=True)
    if folder:
        show.result(f"written: {folder}/  report.json")
    if recipes:
        paste("transform", *given(config, override), "--recipe", recipes[0])
