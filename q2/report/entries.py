"""The recipes that a search's ``report.json`` tells of: the chosen one, the front, the baselines, full precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from q2.errors import Q2Error, why
from q2.report.folder import RunFolder
from q2.search.trials.trial import Trial

__all__ = ["Entry", "entries", "entry_of"]


@dataclass(frozen=True)
class Entry:
    """A recipe of the report: its name or file, the trial's id, and the target's value, None where there is none.

    `allowed` says whether it satisfies the constraints, None where it is no candidate; `measured` has its metrics.
    """

    name: str
    id: str
    target: float | None
    allowed: bool | None
    error: str
    measured: Trial


def entries(run: RunFolder, key: str) -> list[Entry]:
    """Return what ``report.json`` has under a key, one recipe or a list of them; `Q2Error` for a damaged one."""
    found = run.report.get(key)
    try:
        return [entry_of(table) for table in (found if isinstance(found, list) else [found] if found else [])]
    except (AttributeError, TypeError, ValueError) as error:
        raise Q2Error(f"{run.path / 'report.json'}: {key}: cannot be read: {why(error)}") from error


def entry_of(table: Mapping[str, Any]) -> Entry:
    """Read a recipe of a report; what a damaged one raises is for who knows where it is."""
    target = table.get("target")
    metrics = {str(name): float(value) for name, value in table.get("metrics", {}).items()}
    bounds = {str(name): (float(low), float(high)) for name, (low, high) in table.get("intervals", {}).items()}
    return Entry(
        str(table.get("name") or table.get("file", "")),
        str(table.get("id", "")),
        None if target is None else float(target),
        table.get("allowed"),
        str(table.get("error", "")),
        Trial({}, metrics, bounds),
    )
