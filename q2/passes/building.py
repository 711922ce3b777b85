"""Build passes from the tables of a run file, or from a pipeline as text."""

import json
from functools import partial
from pathlib import Path

from q2.config import Key, RunFile, Table, dotted
from q2.errors import ConfigError, Q2Error
from q2.passes.base import Pass, TransformPass
from q2.passes.kinds import PASSES
from q2.passes.pipeline import parse_pipeline
from q2.passes.requires import check_requires
from q2.plugins import Plugins

__all__ = ["QUANTIZE", "passes_from", "passes_of", "with_pipeline"]

QUANTIZE = "quantize"
"""The pass that applies a recipe; in a search the switching from recipe to recipe stands for it."""


def passes_of(run: RunFile, plugins: Plugins) -> list[tuple[str, Pass]]:
    """Build the passes of a run file in file order.

    Raises `ConfigError` for an unknown pass or option, for a pass that requires one that does not exist, and for one
    that has to run for every recipe but stands before the pass that applies the recipe.
    """
    built: list[tuple[str, Pass]] = []
    for title, table in run.settings.passes.items():
        options = dict(table)
        name = options.pop("pass", title)
        key: Key = ("passes", title, "pass") if "pass" in table else ("passes", title)
        if not isinstance(name, str):
            raise ConfigError(f"{run.where(key)}: should be the name of a pass, not {json.dumps(name)}")
        try:
            kind = plugins.of(PASSES).load(name)
            check_requires(kind, {}, plugins)
        except Q2Error as error:
            raise ConfigError(f"{run.where(key)}: {error}") from error
        built.append((title, kind.from_table(options, partial(_where, run, title)).with_paths(run.find)))
    quantizing = [place for place, (_, step) in enumerate(built) if step.name == QUANTIZE]
    for title, step in built[: quantizing[-1] if quantizing else 0]:
        if isinstance(step, TransformPass) and step.per_recipe:
            last = dotted(("passes", built[quantizing[-1]][0]))
            raise ConfigError(f"{run.where(('passes', title))}: runs for every recipe, and has to stand behind {last}")
    return built


def passes_from(text: str, plugins: Plugins, called: str = "passes") -> list[tuple[str, Pass]]:
    """Return the passes of a pipeline with their titles, checked as those of a run file are.

    Raises `ConfigError`: what `parse_pipeline` and `passes_of` raise, after `called` and the column.

    >>> passes_from("size", Plugins(entry_points=False))
    [('size', Size())]
    >>> passes_from("stats,quantise", Plugins(entry_points=False))
    Traceback (most recent call last):
    q2.errors.ConfigError: passes, column 7: no pass named 'quantise'; did you mean 'quantize'?
    """
    tables, places = _tables(text, called)
    return passes_of(RunFile(called, Path.cwd(), {"passes": tables}, called=places), plugins)


def with_pipeline(run: RunFile, text: str, option: str = "--passes") -> RunFile:
    """Return the run with the passes of a pipeline in place of those of its file; overrides hold.

    Raises `ConfigError` for text that is no pipeline; messages name the `option` and the column.
    """
    tables, places = _tables(text, option)
    return run.with_passes(tables, {key: f"{option}, {place}" for key, place in places.items()})


def _tables(text: str, called: str) -> tuple[Table, dict[Key, str]]:
    """Return the tables of a pipeline's passes, and where a message finds each of their keys."""
    try:
        entries = parse_pipeline(text)
    except ConfigError as error:
        raise ConfigError(f"{called}, {error}") from None
    tables = {each.title: ({} if each.title == each.name else {"pass": each.name}) | each.table for each in entries}
    places: dict[Key, str] = {}
    for each in entries:
        for key, place in each.places.items():
            named = f": {dotted((each.title, *key))}" if key else ""
            places["passes", each.title, *key] = f"{place}{named}"
        if each.title != each.name:
            places["passes", each.title, "pass"] = each.places[()]
    return tables, places


def _where(run: RunFile, title: str, key: Key) -> str:
    return run.where(("passes", title, *key))
