"""Docstrings and values as Markdown."""

import inspect
import json
import re
from collections.abc import Iterable, Sequence

__all__ = ["code", "default", "first", "linked", "table", "text_of"]

_PAGE = re.compile(r"(?<![\w/`])(?<!\]\()docs/([\w-]+\.md)(#[\w-]+)?")


def code(value: object) -> str:
    """Return a value as inline code.

    >>> code("a"), code("`a")
    ('`a`', '`` `a ``')
    """
    text = str(value)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def default(value: object) -> str:
    """Return a default as inline code, and nothing for one that says nothing.

    >>> default("svg"), default(True), default(8), default(""), default({})
    ('`svg`', '`true`', '`8`', '', '')
    """
    if value in ("", None, (), {}) and not isinstance(value, bool | int | float):
        return ""
    return code(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))


def linked(text: str) -> str:
    """Return a text in which ``docs/page.md`` is a link to the page.

    >>> linked("Which (docs/optuna.md).")
    'Which ([optuna.md](optuna.md)).'
    """
    return _PAGE.sub(lambda found: f"[{found[1]}]({found[1]}{found[2] or ''})", text)


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Return a table. Bars in its cells are escaped, and their lines joined.

    >>> print(table(["key", "meaning"], [["`a`", "one | two"]]))
    | key | meaning |
    | --- | --- |
    | `a` | one \| two |
    """
    lines = [list(headers), ["---"] * len(headers), *rows]
    cells = [[" ".join(cell.replace("|", r"\|").split()) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def first(thing: object) -> str:
    """Return the first paragraph of a thing's docstring, in one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def text_of(thing: object) -> str:
    """Return a docstring as Markdown: its examples and literal blocks are blocks of code."""
    return linked("\n\n".join(_paragraph(part) for part in re.split(r"\n\s*\n", inspect.getdoc(thing) or "") if part))


def _paragraph(text: str) -> str:
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    if text.startswith("    "):
        return f"```text\n{inspect.cleandoc(text)}\n```"
    return text.removesuffix("::") + (":" if text.endswith("::") else "")
