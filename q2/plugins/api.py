"""The version of what q2 promises to plugins, and what is said to a plugin that is written for another."""

import ast
import re
from pathlib import Path

from q2.errors import PluginError
from q2.version import version

__all__ = ["API", "check_api", "declared_api"]

API = "1.1"
"""Major and minor version of the plugin interface: the hooks, the bases of what they hand over, and `q2.testing`.

A change that breaks plugins raises the major version, an addition the minor one. What goes away has been deprecated
before, see `q2.deprecation`.
"""


def check_api(declared: object) -> None:
    """Raise `PluginError`, one line that says what to do, for a plugin that is not written for this version.

    `declared` is its ``q2_api``: ``"1"``, or ``"1.2"`` where it needs additions of a minor version. None, of a plugin
    that says nothing, counts as ``"1"``: so do the plugins that were written before there were versions.

    >>> check_api("1")
    >>> check_api("1.7")
    Traceback (most recent call last):
    q2.errors.PluginError: is written for version 1.7 of q2's plugin interface, and q2 0.1.0 has 1.1; upgrade q2: pip \
install -U q2-diffusion
    """
    text = "1" if declared is None else declared
    if not (isinstance(text, str) and re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII)):
        raise PluginError(f"q2_api is {text!r}, expected a version as text, such as {API.split('.', maxsplit=1)[0]!r}")
    theirs, ours = _numbers(text), _numbers(API)
    if theirs[0] == ours[0] and theirs <= ours:
        return
    mend = "upgrade the plugin" if theirs < ours else "upgrade q2: pip install -U q2-diffusion"
    raise PluginError(f"is written for version {text} of q2's plugin interface, and q2 {version()} has {API}; {mend}")


def declared_api(file: str | Path | None) -> object:
    """Return the ``q2_api`` that a plugin's file assigns, without importing it; None where it does not say.

    So a plugin for another version is refused for that, and not for a name that q2 does not have.
    """
    try:
        tree = ast.parse(Path(file or "").read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError, ValueError):  # importing it says what is wrong
        return None
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if isinstance(value, ast.Constant) and any(isinstance(t, ast.Name) and t.id == "q2_api" for t in targets):
            return value.value
    return None


def _numbers(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
