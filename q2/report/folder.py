"""The folder of a run as a report reads it: what the run wrote, and nothing that runs code."""

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from q2.errors import Q2Error, why
from q2.quant.recipe import Recipe
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial

__all__ = ["Kind", "RunFolder"]

Kind = Literal["search", "transform", "compare", "sample"]
_FILES: Mapping[Kind, str] = {"search": "trials", "transform": "report.json", "sample": "0000.json"}


@dataclass(frozen=True)
class RunFolder:
    """A folder that ``q2 search``, ``search compare``, ``transform`` or ``sample`` wrote.

    Raises `Q2Error` in one line for a folder that is none, and for a file in it that cannot be read.
    """

    path: Path

    @cached_property
    def kind(self) -> Kind:
        """What made the folder."""
        if not self.path.is_dir():
            raise Q2Error(f"{self.path}: no such folder, expected that of a run")
        if (self.path / "compare.json").exists():
            return "compare"
        for kind, name in _FILES.items():
            if (self.path / name).exists():
                return kind
        raise Q2Error(f"{self.path}: not the folder of a run, expected report.json, compare.json or trials in it")

    @cached_property
    def report(self) -> dict[str, Any]:
        """What ``report.json`` (of a comparison ``compare.json``) holds; empty for a search that is not done."""
        names = {"compare": "compare.json", "sample": "0000.json"}
        return self._table(names.get(self.kind, "report.json"), json.loads)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Versions, plugins, seed and machine."""
        return self._table("manifest.json", json.loads)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that were in effect."""
        return self._table("effective.toml", tomllib.loads)

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
        denoiser = self.report.get("denoiser", {})
        own = denoiser.get("name") if isinstance(denoiser, dict) else None
        return str(own or self.settings.get("denoiser", {}).get("name") or self.path.resolve().name)

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
