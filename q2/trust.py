"""Which run files may name code: run files that ship with q2, and run files in folders that the user trusts.

A run file that was sent to you must not run code because you looked at it. What a command or a call names itself
(``--set``, overrides) is the user's own word. ``q2 --trust`` trusts the folder of the run file from then on.
"""

import importlib.metadata
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from q2.errors import ConfigError
from q2.files import write_text

__all__ = ["REMEMBER", "VARIABLE", "check_trusted", "code_in", "is_trusted", "trust", "trust_written"]

VARIABLE = "Q2_TRUST"
"""The environment variable that trusts every run file of a process and of its child processes."""
REMEMBER = "remember"
"""Its value for ``--trust``: the folders of the run files are trusted from then on."""
_CODE = (("plugins", "modules"), ("model", "import"), ("data", "import"), ("denoiser", "model"))
_MODULES = re.compile(r"(q2|diffusers|torch)(\.\w+)*")
_CLASSES = re.compile(r"(diffusers(\.\w+)*|torch\.nn):[A-Z]\w*")
"""Classes of diffusers and torch.nn; `_MODULES` are those whose import runs no code of others."""


def code_in(table: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return what a run file names that would be run, by key: but for q2's, torch's, and installed plugins' modules.

    >>> code_in({"plugins": {"modules": ["mine.py", "q2.plugins.tensorboard"]}, "model": {"import": "os:system"}})
    {('plugins', 'modules'): 'mine.py', ('model', 'import'): 'os:system'}
    """
    found: dict[tuple[str, str], str] = {}
    for section, key in _CODE:
        part = table.get(section)
        value = part.get(key) if isinstance(part, Mapping) else None
        for name in value if isinstance(value, list | tuple) else [value]:
            if isinstance(name, str) and name and not _is_known(name):
                found.setdefault((section, key), name)
    return found


def check_trusted(file: Path, table: Mapping[str, Any], called: str) -> None:
    """Raise `ConfigError`, after what the file is `called`, if a table names code and its file is not trusted."""
    found = code_in(table)
    if found and os.environ.get(VARIABLE) == REMEMBER:
        trust(file.parent)
    if found and not is_trusted(file.parent):
        (section, key), name = next(iter(found.items()))
        raise ConfigError(
            f"{called}: {section}.{key} names code that would be run, {name!r}; if you trust it, q2 --trust runs it, "
            f"and trusts the run files in its folder from then on"
        )


def is_trusted(folder: Path) -> bool:
    """Return whether run files in a folder may name code."""
    if os.environ.get(VARIABLE, "") not in ("", "0"):
        return True
    try:
        listed = _list().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError, RuntimeError):  # no list, or no home
        return False
    return str(folder.resolve()) in listed


def trust(folder: Path) -> None:
    """Trust the run files in a folder from now on, if the list can be written."""
    with suppress(OSError, UnicodeDecodeError, RuntimeError):
        place, own = _list(), str(folder.resolve())
        listed = place.read_text(encoding="utf-8").splitlines() if place.exists() else []
        if own not in listed and own.isprintable():
            write_text(place, "\n".join([*listed, own]) + "\n")


def trust_written(folder: Path, table: Mapping[str, Any]) -> None:
    """Trust the folder of a run that wrote these settings, if they name code: that code was trusted for the run."""
    if code_in(table) and os.environ.get(VARIABLE, "") in {"", "0", REMEMBER}:
        trust(folder)


def _list() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config else Path.home() / ".config") / "q2" / "trusted"


def _is_known(name: str) -> bool:
    """Return whether a module is q2's or torch's own, or that of a plugin which is installed."""
    if name.endswith(".py"):
        return False
    if _CLASSES.fullmatch(name) or _MODULES.fullmatch(name):
        return True
    return name in {entry.module for entry in importlib.metadata.entry_points(group="q2")}
