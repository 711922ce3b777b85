"""The trial store: a folder that many processes append to, and that survives whatever kills them.

Each process writes a segment of its own, because shared folders give neither atomic appends nor locks to rely on. A
record is a line of JSON with its checksum; a torn last line is what a kill leaves, and is passed over. The recipes of a
segment are written in the codes of tables in the same segment, see `q2.search.trials.encoding`.
"""

import hashlib
import json
import os
import threading
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from q2.config import Key, dotted, flatten, validate
from q2.errors import TrialError, why
from q2.files import creating, parse_json, read_json
from q2.search.trials.encoding import EncodedRecipe, Tables
from q2.search.trials.lines import checked, line
from q2.search.trials.trial import Trial, join

__all__ = ["Fingerprint", "TrialStore", "store_in"]

_HEAD = "store.json"
_VERSION, _FULL = 2, 1
"""Stores of version 1 have full recipes in their records. They are read, and new records have the same form."""

_COPIES = 2
"""How often a segment has each table: all its trials rest on it."""


@dataclass(frozen=True)
class Fingerprint:
    """What trials must have in common to be compared: denoiser, its checkpoint, how it was evaluated, and by which q2.

    `evaluation` is a table of settings, such as number of images and denoising steps.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    denoiser: str
    checkpoint: str
    version: str
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    def differences(self, other: "Fingerprint") -> list[str]:
        """Return a phrase for everything in which `self` is not as `other`; of the version, major and minor count.

        >>> mine = Fingerprint("sdxl", "0a1b", "0.1.0", {"images": 200})
        >>> mine.differences(Fingerprint("sdxl", "0a1b", "0.1.7", {"images": 1000}))
        ['evaluation.images is 200, not 1000']
        """
        ours, theirs = self._compared(), other._compared()
        return [
            f"{dotted(key)} is {_shown(ours.get(key))}, not {_shown(theirs.get(key))}"
            for key in {**ours, **theirs}
            if ours.get(key) != theirs.get(key)
        ]

    @property
    def digest(self) -> str:
        """16 hex digits, the same for fingerprints without differences."""
        compared = sorted((dotted(key), _shown(value)) for key, value in self._compared().items())
        return hashlib.sha256(json.dumps(compared).encode()).hexdigest()[:16]

    def _compared(self) -> dict[Key, object]:
        """Return the values to compare, as they would come back from JSON; patch releases measure alike."""
        table: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        table["version"] = ".".join(self.version.split(".")[:2])
        return {key: value for key, value in flatten(table).items() if value != {}}


class TrialStore:
    """The trials of one search, by id. Opened by `open` (for a run) or `read` (as it is).

    Safe under any number of writers, threads and kills: an append is on disk when `add` returns. Pickles as its path,
    so that every worker writes its own segment. Recipes share the store's tables: a trial takes a few kilobytes.
    """

    def __init__(self, path: Path, fingerprint: Fingerprint, version: int = _VERSION) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._version = version
        self._damaged: list[str] = []
        self._unread: list[tuple[str, bytes]] = []
        self._tables = Tables()
        self._known: set[bytes] = set()
        self._records: dict[str, list[Trial]] = {}
        self._joined: dict[str, Trial] = {}
        self._read: dict[str, int] = {}
        self._lines: dict[str, int] = {}
        self._segment: _Segment | None = None
        self._lock = threading.RLock()
        self.refresh()

    @classmethod
    def open(cls, path: str | Path, fingerprint: Fingerprint) -> "TrialStore":
        """Open the store at `path`, or make it. Raises `TrialError` for the store of another run: what differs."""
        path = Path(path)
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            _create(path, fingerprint)
        store = cls.read(path)
        if found := store.fingerprint.differences(fingerprint):
            raise TrialError(f"{path}: the trials of another run: {'; '.join(found)}")
        return store

    @classmethod
    def read(cls, path: str | Path) -> "TrialStore":
        """Open the store at `path`, whatever it is of. Raises `TrialError` where there is none."""
        path = Path(path)
        head = path / _HEAD
        try:
            table = read_json(head)
        except (FileNotFoundError, NotADirectoryError):
            raise TrialError(f"{path}: no trial store, expected a folder with {_HEAD}") from None
        except (OSError, ValueError) as error:
            raise TrialError(f"{head}: cannot be read: {why(error)}") from error
        version = table.get("version") if isinstance(table, dict) and table.get("q2") == "trials" else None
        if version not in (_FULL, _VERSION):
            raise TrialError(f"{head}: expected a trial store of version {_FULL} or {_VERSION}")
        found = validate(Fingerprint, table.get("fingerprint", {}), lambda key: f"{head}: fingerprint.{dotted(key)}")
        return cls(path, found, version)

    def __reduce__(self) -> tuple[Any, ...]:
        return TrialStore.read, (self.path,)

    @property
    def damaged(self) -> list[str]:
        """The places where a whole line is not what was written, or a recipe's tables are missing."""
        return [*self._damaged, *(place for place, _ in self._unread)]

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[Trial]:
        """Yield the trials by number, then by id; the same whatever order they came in."""
        trials = [self[key] for key in list(self._records)]
        yield from sorted(trials, key=lambda trial: (trial.number is None, trial.number or 0, trial.id))

    def __getitem__(self, key: str) -> Trial:
        with self._lock:
            if key not in self._joined:
                self._joined[key] = join(self._records[key])
            return self._joined[key]

    def add(self, trial: Trial) -> bool:
        """Append a record, unless this very one is there; say whether it was new. Raises `TrialError` on a full disk.

        Another record of the same trial (more metrics, a retry) is kept beside the first; see `join`.
        """
        return self.extend([trial]) == 1

    def extend(self, trials: Iterable[Trial]) -> int:
        """Append the records that are not there yet; return how many. Raises `TrialError` as `add` does."""
        return self._append(trials)

    def check(self, other: "TrialStore") -> None:
        """Raise `TrialError` if `other` holds the trials of another run: what differs."""
        if found := other.fingerprint.differences(self.fingerprint):
            raise TrialError(f"{other.path}: the trials of another run than {self.path}: {'; '.join(found)}")

    def merge(self, other: "TrialStore") -> int:
        """Append the records of `other` that are not here; return how many. Raises `TrialError` for another run.

        The result does not depend on the order of merges, and merging again changes nothing.
        """
        self.check(other)
        other.refresh()
        return self.extend(record for records in other._records.values() for record in records)

    def refresh(self) -> int:
        """Read what other processes have written since; return the number of new records. Raises `TrialError`."""
        with self._lock:
            try:
                new = sum(self._take_in(segment) for segment in sorted(self.path.glob("*.jsonl")))
            except OSError as error:
                raise TrialError(f"{self.path}: cannot be read: {why(error)}") from error
            waiting, self._unread = self._unread, []  # their tables may have come
            return new + sum(self._take_body(place, "trial", body) for place, body in waiting)

    def _take_in(self, segment: Path) -> int:
        start, new = self._read.get(segment.name, 0), 0
        if segment.stat().st_size == start:
            return 0
        with segment.open("rb") as file:
            file.seek(start)
            for text in file:
                if not text.endswith(b"\n"):
                    break
                self._read[segment.name] = start = start + len(text)
                number = self._lines[segment.name] = self._lines.get(segment.name, 0) + 1
                new += self._take_body(f"{segment}: line {number}", *(checked(text) or ("", b"")))
        return new

    def _take_body(self, place: str, kind: str, body: bytes) -> bool:
        """Read the record in a line; return whether it is new."""
        try:
            if kind == "trial":
                return self._take_trial(place, body)
            if kind == "layers":
                self._tables.take_layers(body)
            elif kind == "options":
                self._tables.take_options(body)
            else:
                self._damaged.append(place)
        except (
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
            OverflowError,
            TrialError,
        ):  # something else wrote it
            self._damaged.append(place)
        return False

    def _take_trial(self, place: str, body: bytes) -> bool:
        table = parse_json(body)
        key, recipe = table.pop("id", ""), table["recipe"]
        if isinstance(recipe, str):
            layers, options = table.pop("layers"), table.pop("options")
            if not self._tables.has(layers, options):
                self._unread.append((place, body))
                return False
            table["recipe"] = self._tables.decode(layers, options, recipe)
        trial = Trial(**table)
        trial.check()
        if key:
            vars(trial)["id"] = key  # to work it out takes longer than all else
        return self._remember(trial) is not None

    def _remember(self, trial: Trial) -> Trial | None:
        """Return the trial as it is kept, or None if there is a record like it."""
        identity = _identity(trial)
        if identity in self._known:
            return None
        kept = replace(trial, recipe=self._tables.encode(trial.recipe))
        vars(kept)["id"] = trial.id
        self._known.add(identity)
        self._records.setdefault(kept.id, []).append(kept)
        self._joined.pop(kept.id, None)
        return kept

    def _append(self, trials: Iterable[Trial]) -> int:
        with self._lock:
            new = [kept for trial in trials if (kept := self._remember(trial)) is not None]
            try:
                if new:
                    segment = self._own_segment()
                    with segment.path.open("ab") as file:
                        file.writelines(text for trial in new for text in self._written(trial, segment))
                        file.flush()
                        os.fsync(file.fileno())
            except OSError as error:
                self._forget(new)
                raise TrialError(f"{self.path}: cannot be written: {why(error)}") from error
            return len(new)

    def _written(self, trial: Trial, segment: "_Segment") -> Iterator[bytes]:
        """Yield the lines of a trial, with those of tables that the segment does not have yet."""
        if self._version == _FULL:
            yield line("trial", trial.to_json().encode())
            return
        assert isinstance(trial.recipe, EncodedRecipe)
        layers = trial.recipe.layers
        digest, options = self._tables.options()
        for kind, name, body in (("layers", layers.digest, layers.body), ("options", digest, options)):
            if segment.tables[name] < _COPIES:
                segment.tables[name] += 1
                yield line(kind, body)
        table = {"id": trial.id, "layers": layers.digest, "options": digest, "recipe": trial.recipe.codes}
        yield line("trial", _text(table | trial.facts()))

    def _own_segment(self) -> "_Segment":
        """Return this process's segment. A forked child has one of its own, and so has who failed to write to one."""
        if self._segment is None or self._segment.pid != os.getpid():
            self._segment = _Segment(self.path / f"{uuid.uuid4().hex}.jsonl", os.getpid())
        return self._segment

    def _forget(self, trials: Iterable[Trial]) -> None:
        """Take back what could not be written; what comes next goes to a new segment, behind no torn line."""
        self._segment = None
        for trial in trials:
            self._known.discard(_identity(trial))
            self._joined.pop(trial.id, None)
            self._records[trial.id].remove(trial)
            if not self._records[trial.id]:
                del self._records[trial.id]


@dataclass(frozen=True)
class _Segment:
    """The file that a process appends to, and how often each table is in it."""

    path: Path
    pid: int
    tables: Counter[str] = field(default_factory=Counter)


def store_in(path: Path) -> Path:
    """Return the store that a path means: itself, or ``trials`` in the folder of a search."""
    inside = path / "trials"
    return inside if (inside / _HEAD).exists() and not (path / _HEAD).exists() else path


def _create(path: Path, fingerprint: Fingerprint) -> None:
    """Make the folder with its head in one step: where several processes try, one succeeds and the others find it."""
    try:
        with creating(path) as beside:
            table = {"q2": "trials", "version": _VERSION, "fingerprint": asdict(fingerprint)}
            (beside / _HEAD).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        if not (path / _HEAD).exists():
            raise TrialError(f"{path}: cannot be made: {error}") from error


def _identity(trial: Trial) -> bytes:
    """Return what two records share if they say the same, however they are written; the id stands for the recipe."""
    return hashlib.sha256(trial.id.encode() + _text(trial.facts())).digest()[:16]


def _text(table: Mapping[str, object]) -> bytes:
    return json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
