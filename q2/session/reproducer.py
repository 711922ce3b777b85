"""A reproducer: one small TOML file, written when a pass crashes, that ``q2 transform --replay`` runs again."""

import os
import platform
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from q2.config import Key, RunFile, Settings, Table, dotted, flatten, to_toml, validate
from q2.errors import ConfigError, PassError
from q2.files import read_toml, write_text
from q2.passes import pipeline_text, with_pipeline
from q2.session.session import Session
from q2.trust import check_trusted
from q2.version import version

__all__ = ["Reproducer", "reproducing"]

_UNUSED = ("passes", "search", "train", "samples")
"""Sections that change nothing of what passes do; `passes` is text of its own."""
_SECRET = re.compile(r"token|passw|secret|credential|api_?key|auth", re.IGNORECASE)
_IN_URL = re.compile(r"://[^/@\s]+@")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_PACKAGES = ("torch", "diffusers", "numpy", "safetensors")


@dataclass(frozen=True)
class Failure:
    """The pass that crashed: its table's title, its number in the run, the layer, the error, and the line of code."""

    title: str
    number: int
    error: str
    layer: str = ""
    where: str = ""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Reproducer:
    """What is needed to run passes again until the same one crashes, and what was there when it did.

    `run` is the name of the run file, `passes` the pipeline, `settings` those that differ from their defaults, without
    what passes do not see (searches, training, images for comparison); `left_out` names settings that look like
    secrets. Paths below the working folder are kept relative to the file.
    """

    run: str
    passes: str
    failure: Failure
    settings: Table = field(default_factory=dict)
    verify_each: bool = False
    left_out: tuple[str, ...] = ()
    written: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    format: Literal[1] = 1
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @classmethod
    def of(cls, session: Session, error: PassError, folder: Path, *, verify_each: bool = False) -> Self:
        """Describe the crash of a session's pass, for a file in `folder`."""
        assert error.failure is not None  # `reproducing` has seen it
        near, failed = _nearer(folder), error.failure
        settings, left_out = _settings(session, near)
        passes = [(title, step.with_paths(near)) for title, step in session.passes]
        secret = {
            ("passes", title, *key)
            for title, step in passes
            for key, value in flatten(step.to_table()).items()
            if _is_secret(key, value)
        }
        left_out += map(dotted, sorted(secret))
        where = _line_of(error.__cause__)
        return cls(
            run=session.run.name,
            passes=pipeline_text(passes, {(key[1], key[2]) for key in secret}),
            failure=Failure(failed.title, failed.number, _clean(failed.error), failed.layer, where),
            settings=settings,
            verify_each=verify_each,
            left_out=tuple(left_out),
            written=datetime.now().astimezone().isoformat(timespec="seconds"),
            versions={"python": platform.python_version(), "q2": version()}
            | {name: version_of(name) for name in _PACKAGES},
            plugins={info.name: info.version for info in session.plugins.infos},
            machine={"platform": platform.platform(), "device": _device(session)},
        )

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a reproducer. Raises `ConfigError`, one line with file and key, for what is none."""
        called = f"--replay {file}"
        table = read_toml(file, ConfigError, called)
        if table.get("format") != 1 or "passes" not in table:
            raise ConfigError(f"{called}: is no reproducer of this version of q2")
        return validate(cls, table, lambda key: f"{called}: {dotted(key)}")

    def save(self, file: Path) -> None:
        """Write it as TOML."""
        table = {key: value for key, value in asdict(self).items() if value not in ("", (), {})}
        order = ["format", *(key for key in table if key != "format" and not isinstance(table[key], dict))]
        ordered = {key: table[key] for key in order} | table
        head = f"# A pass of q2 crashed. To run it again: q2 transform --replay {file.name}\n\n"
        write_text(file, head + to_toml(ordered))

    def run_file(self, file: Path) -> RunFile:
        """Return the run that crashed, as one that was read from `file`. Raises `ConfigError`."""
        check_trusted(file, self.settings, f"--replay {file}: settings")
        run = RunFile(file.name, file.parent.absolute(), dict(self.settings))
        return with_pipeline(run, self.passes, "passes")

    def is_same(self, error: PassError) -> bool:
        """Return whether a crash is that of the file: the same pass, layer and error, memory addresses aside."""
        if error.failure is None:
            return False
        now = error.failure.title, error.failure.layer, _ADDRESS.sub("", _clean(error.failure.error))
        return now == (self.failure.title, self.failure.layer, _ADDRESS.sub("", self.failure.error))


@contextmanager
def reproducing(session: Session, folder: Path | None, *, verify_each: bool = False) -> Iterator[None]:
    """Write a reproducer beside `folder` when a pass crashes within the `with`, and say so in the error."""
    try:
        yield
    except PassError as error:
        if folder is None or not error.is_crash:
            raise
        place = Path(os.path.abspath(folder))
        file = place.with_name(f"{place.name}-reproducer.toml")
        shown = folder.with_name(file.name) if folder.name else file
        try:
            Reproducer.of(session, error, file.parent, verify_each=verify_each).save(file)
        except OSError:
            raise error.noting(f"{shown} could not be written") from error.__cause__
        raise error.noting(f"q2 transform --replay {shown} runs it again") from error.__cause__


def _settings(session: Session, near: Callable[[str], str]) -> tuple[Table, list[str]]:
    """Return the settings that differ from their defaults and that passes can see, and the keys left out."""
    usual, left_out = flatten(Settings().model_dump(mode="json")), []
    table: Table = {}
    for key, value in flatten(session.settings.model_dump(mode="json")).items():
        if key[0] in _UNUSED or value is None or usual.get(key) == value:
            continue
        if _is_secret(key, value):
            left_out.append(dotted(key))
            continue
        inner: Table = table
        for part in key[:-1]:
            inner = inner.setdefault(part, {})
        inner[key[-1]] = _with_paths(value, near)
    return table, left_out


def _is_secret(key: Key, value: object) -> bool:
    """Return whether a setting looks like a password or a token: text whose key says so, or an address with a login."""
    texts = [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, str)]
    return any(texts) and (any(map(_SECRET.search, key)) or any(map(_IN_URL.search, texts)))


def _with_paths(value: Any, near: Callable[[str], str]) -> Any:
    if isinstance(value, list | tuple):
        return [_with_paths(each, near) for each in value]
    if isinstance(value, dict):
        return {key: _with_paths(each, near) for key, each in value.items()}
    return near(value) if isinstance(value, str) else value


def _nearer(folder: Path) -> Callable[[str], str]:
    """Return a function that makes a path below the working folder relative to `folder`; other text stays."""
    here = Path.cwd()

    def near(text: str) -> str:
        path = Path(text) if os.path.isabs(text) else None
        return os.path.relpath(path, folder) if path and path.is_relative_to(here) else text

    return near


def _device(session: Session) -> str:
    """Return where the denoiser or the module of a session is."""
    loaded = vars(session).get("denoiser") or vars(session).get("model")
    return str(getattr(loaded, "device", ""))


def _clean(text: str) -> str:
    """Return an error's text with paths from the working folder, or from the user's."""
    return text.replace(f"{Path.cwd()}/", "").replace(f"{Path.home()}/", "~/")


def _line_of(error: BaseException | None) -> str:
    """Return the module, line and function in which an error was raised; no path of the machine is in it."""
    frames = list(traceback.walk_tb(error.__traceback__)) if error else []
    if not frames:
        return ""
    frame, line = frames[-1]
    module = str(frame.f_globals.get("__name__", "")) or Path(frame.f_code.co_filename).name
    return f"{module}, line {line}, in {frame.f_code.co_name}"
