"""The folder of a run as a report reads it: what the run wrote, and nothing that runs code."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from q2.errors import Q2Error, why
from q2.files import parse_json, parse_toml
from q2.quant.recipe import Recipe
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial

__all__ = ["Kind", "RunFolder"]

Kind = Literal["search", "transform", "compare", "samples", "evaluate"]
_TRACES: Mapping[Kind, str] = {
    "compare": "compare.json",
    "search": "trials",
    "samples": "grid.png",
    "transform": "recipe.toml",
}
_REPORTS: Mapping[Kind, str] = {"compare": "compare.json", "samples": "0000.json"}


@dataclass(frozen=True)
class RunFolder:
    """A folder that ``q2 search``, ``search compare``, ``transform``, ``evaluate`` or ``sample`` wrote.

    Raises `Q2Error` in one line for a folder that is none, and for a file in it that cannot be read.
    """

    path: Path

    @cached_property
    def kind(self) -> Kind:
        """What made the folder: by its manifest, else by what earlier versions left."""
        if not self.path.is_dir():
            raise Q2Error(f"{self.path}: no such folder, expected that of a run")
        told = self.manifest.get("run")
        known = told.get("kind") if isinstance(told, dict) else None
        kind = next((kind for kind in get_args(Kind) if kind == known), None)
        kind = kind or next((kind for kind, name in _TRACES.items() if (self.path / name).exists()), None)
        if kind is None:
            files = ", ".join(["manifest.json", *_TRACES.values()])
            raise Q2Error(f"{self.path}: not the folder of a run, expected one of {files} in it")
        return kind

    @cached_property
    def report(self) -> dict[str, Any]:
        """What ``report.json`` (of a comparison ``compare.json``) holds; empty for a search that is not done."""
        return self._table(_REPORTS.get(self.kind, "report.json"), parse_json)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, plugins, seed and machine."""
        return self._table("manifest.json", parse_json)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that were in effect."""
        return self._table("effective.toml", parse_toml)

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe that the run applied, or that the search chose; None where there is none."""
        path = self.path / "recipe.toml"
        return Recipe.load(path) if path.exists() else None

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """The trials of a search or comparison, by number."""
        path = self.path / "trials"
        return tuple(TrialStore.read(path)) if path.exists() else ()

    @property
    def title(self) -> str:
        """What the run is about: the denoiser's name, else the folder's."""
        tables = [self.report.get(key) for key in ("denoiser", "model")] + [self.settings.get("denoiser")]
        names = [table.get("name") for table in tables if isinstance(table, dict)]
        run = self.manifest.get("run")
        names += [run.get("denoiser")] if isinstance(run, dict) else []
        return str(next(filter(None, names), self.path.resolve().name))

    def _table(self, name: str, load: Callable[[str], Any]) -> dict[str, Any]:
        path = self.path / name
        if not path.exists():
            return {}
        try:
            table = load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Q2Error(f"{path}: cannot be read: {why(error)}") from error
        if not isinstance(table, dict):
            raise Q2Error(f"{path}: expected a table, not {type(table).__name__}")
        return table
