"""Trials in files for others: exported as JSON or as a CSV table, and read back from JSON."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from q2.config import dotted, validate
from q2.errors import OptionError, TrialError, why
from q2.files import read_json, replacing
from q2.quant.options import Option
from q2.search.trials.encoding import plain
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

__all__ = ["Format", "checked", "csv_lines", "export", "import_", "json_lines"]

Format = Literal["json", "csv"]
_COLUMNS = ("id", "number", "state", "strategy", "fidelity", "seed", "seconds")


def export(store: TrialStore, path: str | Path, format: Format = "json") -> None:  # noqa: A002
    """Write the trials of `store`, the whole file or none of it. Raises `TrialError` if it cannot be written."""
    try:
        with replacing(Path(path)) as beside, beside.open("w", encoding="utf-8") as file:
            file.writelines(csv_lines(store) if format == "csv" else json_lines(store, store.fingerprint))
    except OSError as error:
        raise TrialError(f"{path}: cannot be written: {why(error)}") from error


def json_lines(trials: Iterable[Trial], fingerprint: Fingerprint | None = None) -> Iterator[str]:
    """Yield the trials as JSON text, ``{"trials": [{"recipe": {…}, "metrics": {…}, …}]}``, one trial a line.

    >>> json.loads("".join(json_lines([Trial({"proj": "uaq-4"}, {"bops": 1.5})])))["trials"][0]["recipe"]
    {'proj': 'uaq-4'}
    """
    head = "" if fingerprint is None else f'"fingerprint": {json.dumps(asdict(fingerprint), ensure_ascii=False)},\n'
    yield f'{{{head}"trials": [\n  '
    for place, trial in enumerate(trials):
        yield (",\n  " if place else "") + json.dumps(trial.table() | {"id": trial.id}, ensure_ascii=False)
    yield "\n]}\n"


def csv_lines(trials: Iterable[Trial]) -> Iterator[str]:
    r"""Yield the trials as a table: number, state and so on, then every metric with its bounds, then every layer.

    >>> next(csv_lines([Trial({"proj": "uaq-4"}, {"bops": 1.5}, number=0)]))
    'id,number,state,strategy,fidelity,seed,seconds,bops,proj\n'
    """
    held = list(trials)
    metrics = dict.fromkeys(name for trial in held for name in _measured(trial))
    layers = dict.fromkeys(layer for names in dict.fromkeys(tuple(trial.recipe) for trial in held) for layer in names)
    text = io.StringIO()
    table = csv.DictWriter(text, [*_COLUMNS, *sorted(metrics), *layers], lineterminator="\n")
    table.writeheader()
    yield text.getvalue()
    for trial in held:
        text.seek(0)
        text.truncate()
        facts = {name: getattr(trial, name) for name in _COLUMNS}
        table.writerow({**facts, **_measured(trial), **plain(trial.recipe)})
        yield text.getvalue()


def _measured(trial: Trial) -> dict[str, float]:
    """Return the metrics with their bounds, by column."""
    row: dict[str, float] = {}
    for name, value in trial.metrics.items():
        row[name] = value
        for bound, limit in zip(("low", "high"), trial.intervals.get(name, ()), strict=False):
            row[f"{name} {bound}"] = limit
    return row


@dataclass(frozen=True)
class _File:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    trials: list[Trial]
    fingerprint: Fingerprint | None = None


def import_(store: TrialStore, path: str | Path) -> int:
    """Add the trials of a JSON file that `export` wrote, or that looks like it; return how many records were new.

    All are checked first: `TrialError` or `ConfigError`, one line with the file and the key, leaves the store as it
    was. Trials of another run are refused if the file says so; a file without a fingerprint is believed.
    """
    path = Path(path)
    try:
        table = read_json(path)
    except (OSError, ValueError) as error:
        raise TrialError(f"{path}: cannot be read as JSON: {why(error)}") from error
    if not isinstance(table, dict) or not isinstance(table.get("trials"), list):
        raise TrialError(f'{path}: expected {{"trials": [{{"recipe": {{…}}, "metrics": {{…}}}}, …]}}')
    for entry in table["trials"]:
        if isinstance(entry, dict):
            entry.pop("id", None)  # it follows from the rest
    try:
        file = validate(_File, table, lambda key: f"{path}: {dotted(key)}")
    except TrialError as error:
        raise TrialError(f"{path}: {error}") from error
    if file.fingerprint and (found := file.fingerprint.differences(store.fingerprint)):
        raise TrialError(f"{path}: the trials of another run than {store.path}: {'; '.join(found)}")
    return store.extend([checked(trial, f"{path}: trials.{index}") for index, trial in enumerate(file.trials)])


def checked(trial: Trial, where: str) -> Trial:
    """Return a trial from outside with its options in their plain spelling. Raises `TrialError` for one that is none.

    >>> checked(Trial({"proj": "NA"}), "file.json").recipe
    {'proj': 'none'}
    """
    spelled: dict[str, str] = {}
    for layer, text in trial.recipe.items():
        try:
            spelled[text] = spelled.get(text) or str(Option.parse(text))
        except OptionError as error:
            raise TrialError(f"{where}.recipe.{dotted((layer,))}: {error}") from None
    return replace(trial, recipe={layer: spelled[text] for layer, text in trial.recipe.items()})
