"""What a Python caller gives a session: recipes, folders and denoisers; a mistake is one line with the argument."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from q2.arguments import the_path, unexpected
from q2.config import Key, RunFile
from q2.errors import ConfigError, Q2Error
from q2.passes import QUANTIZE, PassContext
from q2.quant import Option, Recipe
from q2.session.session import Given, Session, usable

__all__ = ["FORM", "folder_of", "naming", "path_of", "with_denoiser", "with_given"]

FORM = "overrides[{!r}]"
"""How a message names a setting that a Python caller overrides."""


def with_given(session: Session, recipe: Given) -> Session:
    """Return the session with a recipe in place of every quantize pass; nothing but shapes is looked at.

    Raises `Q2Error` for what is no recipe, or does not fit the denoiser.
    """
    pairs = recipe.items() if isinstance(recipe, Mapping) else ()
    typed = all(isinstance(name, str) and isinstance(option, str | Option) for name, option in pairs)
    if not isinstance(recipe, Recipe | Mapping | str | Path) or not typed:
        raise unexpected("recipe", recipe, "a recipe's file, a q2.Recipe, or a mapping from layer to option")
    with naming("recipe"):
        if isinstance(recipe, str | Path):
            Recipe.load(recipe)
        session = session.with_recipe(recipe)
        step = next(step for _, step in session.passes if step.name == QUANTIZE)
        step.check(session.outline, PassContext(session.plugins, session.shapes, prec=session.settings.prec))
    return session


def with_denoiser(run: RunFile, denoiser: str, checkpoint: str) -> RunFile:
    """Return the run with a denoiser and a checkpoint that an argument names, where it does (empty: it does not).

    Another denoiser takes the place of the run file's whole table. Raises `ConfigError` if overrides name one too.
    """
    said = run.overrides.get("denoiser", {})
    given = {"name": denoiser, "model": denoiser, "checkpoint": checkpoint}
    for key in (key for key, value in given.items() if value and key in said):
        argument = "checkpoint" if key == "checkpoint" else "denoiser"
        raise ConfigError(f"{argument}={given[key]!r} and {FORM.format(f'denoiser.{key}')}: leave one out")
    if checkpoint and Path(checkpoint).exists():
        checkpoint = str(Path(checkpoint).absolute())
    file = run.file
    if denoiser and file.get("denoiser", {}).get("name") != denoiser:
        file = {key: table for key, table in file.items() if key != "denoiser"}
    values: dict[Key, tuple[str, str]] = {
        ("denoiser", "name"): ("denoiser", denoiser),
        ("denoiser", "checkpoint"): ("checkpoint", checkpoint),
    }
    called = {key: f"{argument}={value!r}" for key, (argument, value) in values.items() if value}
    named = {".".join(key): value for key, (_, value) in values.items() if value}
    return replace(run, file=file, called=called).overridden(named)


def path_of(name: str, value: object) -> Path | None:
    """Return an argument that is a path or None. Raises `ConfigError`."""
    return None if value is None else the_path(name, value)


def folder_of(value: object) -> Path | None:
    """Return the argument `folder`. Raises `ConfigError` if it cannot be written to."""
    return None if value is None else usable(the_path("folder", value), "folder=")


@contextmanager
def naming(argument: str) -> Iterator[None]:
    """Put an argument's name in front of a user's mistake made inside. Raises `ConfigError`."""
    try:
        yield
    except Q2Error as error:
        raise ConfigError(f"{argument}: {error}") from error
