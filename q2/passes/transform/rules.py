"""Rules of a run file: which layers a type, a name or a regular expression means."""

import re
from collections.abc import Collection, Mapping
from typing import Literal

from q2.errors import ConfigError, did_you_mean

__all__ = ["By", "matching"]

By = Literal["type", "name", "regex"]


def matching(by: By, key: str, types: Mapping[str, str], *, options: Collection[str] = ()) -> list[str]:
    """Return which of the names that `types` gives a type to are meant by a rule's `key`.

    A type may be written as torch's function is called (``batch_norm1d``), a name as fx's node is (``blocks_2``). By
    name, the name of a layer in two parts (``path``, ``path#1``) means both. Raises `ConfigError` for a rule that
    means none, with the nearest name among them and among the pass's `options`.

    >>> matching("type", "linear", {"head": "Linear", "image": "Conv2d"})
    ['head']
    """
    known: Collection[str] = types
    if by == "regex":
        try:
            pattern = re.compile(key)
        except re.error as error:
            raise ConfigError(f"{key!r} is no regular expression: {error}") from error
        found = [name for name in types if pattern.search(name)]
    elif by == "type":
        found = [name for name, kind in types.items() if kind.lower() == key.lower().replace("_", "")]
        known = sorted({kind.lower() for kind in types.values()})
    else:
        found = [name for name in types if key in (name, name.partition("#")[0], name.replace(".", "_"))]
    if not found:
        kind = {"regex": "no layer matches", "type": "no layer has the type", "name": "no layer is named"}[by]
        near = did_you_mean(key, known) or did_you_mean(key, options) or _some(list(known))
        raise ConfigError(f"{kind} {key!r}{near}")
    return found


def _some(known: list[str]) -> str:
    return f" (there are: {', '.join(known[:4])}{', …' if len(known) > 4 else ''})"
