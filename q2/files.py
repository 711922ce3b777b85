"""Files that are either whole or not there: written beside, then renamed."""

import fcntl
import json
import math
import os
import re
import shutil
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import toml

from q2.errors import Q2Error, why

__all__ = [
    "alone",
    "creating",
    "lock",
    "parse_json",
    "parse_toml",
    "plain",
    "read_json",
    "read_toml",
    "remove_unlocked",
    "replacing",
    "toml_text",
    "write_json",
    "write_text",
]

_DEEPEST = 100
"""How many tables and lists may lie within each other in a file: code that goes down recursively has room for these."""
_ESCAPED = re.compile(r"[\\\x00-\x08\n\x0b\x0c\x0e-\x1f\x7f-\xa0\xad]")
"""What TOML, or the toml package, writes as an escape; U+FDD0, which stands for no sign, marks it meanwhile."""


def read_toml(path: Path, kind: type[Q2Error], name: str = "") -> dict[str, Any]:
    """Return the table in a TOML file. Raises `kind` in one line, with the file as it was called: `name`, or `path`."""
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise kind(f"{name or path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise kind(f"{name or path}: cannot be read: {why(error)}") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table that TOML says. Raises `tomllib.TOMLDecodeError`, a ValueError, and nothing else.

    >>> parse_toml("a = " + "[" * 5000)
    Traceback (most recent call last):
    tomllib.TOMLDecodeError: nested deeper than 100
    """
    try:
        table = tomllib.loads(text)
        _check_depth(table)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        raise tomllib.TOMLDecodeError(f"nested deeper than {_DEEPEST}") from None
    except ValueError as error:  # a number of thousands of digits, a date that there is not
        raise tomllib.TOMLDecodeError(str(error)) from None
    return table


def toml_text(table: Mapping[str, object]) -> str:
    r"""Return a table as TOML. The toml package loses its way at signs that it escapes, so it is given none.

    >>> text = toml_text({"path": r"C:\x86", "rules": {r"^a\xb$": "uaq-4"}})
    >>> parse_toml(text)
    {'path': 'C:\\x86', 'rules': {'^a\\xb$': 'uaq-4'}}
    """
    return re.sub(r"\\ufdd0([0-9a-f]{4})", _escaped, toml.dumps(_marked(table)))


def _marked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_marked(key): _marked(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(inner) for inner in value]
    return _ESCAPED.sub(lambda found: f"\ufdd0{ord(found[0]):04x}", value) if isinstance(value, str) else value


def _escaped(found: re.Match[str]) -> str:
    return {"005c": r"\\", "000a": r"\n"}.get(found[1], rf"\u{found[1]}")


def read_json(path: Path) -> Any:
    """Return what a JSON file in UTF-8 holds. Raises OSError, and ValueError as `parse_json` does."""
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Return the value that JSON says. Raises ValueError for what is none, or is nested too deep.

    >>> parse_json("[" * 5000)
    Traceback (most recent call last):
    ValueError: nested deeper than 100
    """
    try:
        value = json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEEPEST}") from None
    _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    """Raise ValueError for tables and lists that lie too deep within each other."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(_DEEPEST + 1):
        containers = (each.values() if isinstance(each, dict) else each for each in level)
        level = [inner for each in containers for inner in each if isinstance(inner, dict | list)]
        if not level:
            return
    raise ValueError(f"nested deeper than {_DEEPEST}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` if the block ends well, else remove it.

    What killed processes left of the same file is removed first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)

    def make(prefix: str) -> str:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        return name

    with _held(path.parent, path.stem, make) as beside:
        try:
            yield beside
            beside.chmod(0o666 & ~_umask())  # mkstemp makes private files; a result is for everyone the umask allows
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time work in `folder`, which is made if need be; others wait. A killed process lets go."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def creating(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside; rename it to `folder` if the block ends well, else remove it.

    What killed processes left of the same folder is removed first. Raises `OSError` if `folder` is there and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(17, "already exists", str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _held(folder.parent, folder.name, lambda prefix: tempfile.mkdtemp(prefix=prefix, dir=folder.parent)) as beside:
        try:
            yield beside
            for part in (beside, *beside.rglob("*")):  # mkdtemp makes private folders, some libraries private files
                part.chmod((0o777 if part.is_dir() else 0o666) & ~_umask())
            beside.replace(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _held(folder: Path, name: str, make: Callable[[str], str]) -> Iterator[Path]:
    """Yield what `make` makes of a prefix in `folder`, locked, so that other processes see that it is worked at.

    What has the same prefix and no lock is removed before: whoever made it, on this machine, was killed. The machine
    is in the prefix, since a network's file system may know the locks of one machine only.
    """
    prefix = f"{name}-{zlib.crc32(os.uname().nodename.encode()):08x}-"
    for left in os.listdir(folder):
        if left.startswith(".") and left.lstrip(".").startswith(prefix.lstrip(".")):
            remove_unlocked(folder / left)
    while (handle := lock(beside := Path(make(f".{prefix}")))) is None:
        pass  # it was taken for left over before it was locked
    try:
        yield beside
    finally:
        os.close(handle)


def lock(path: Path, *, shared: bool = False) -> int | None:
    """Lock a file or a folder against `remove_unlocked`; return the handle that holds it, None if it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with suppress(OSError):  # some file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    if path.exists():
        return handle
    os.close(handle)
    return None


def remove_unlocked(path: Path) -> None:
    """Remove a file or a folder unless a process has locked it."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8 so that a reader sees the old file or the new one, never a part."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity become null, as JSON has neither."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: object) -> object:
    """Return what JSON can hold of a value: NaN and infinity become null, as it has neither."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
