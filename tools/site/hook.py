"""What mkdocs calls while it builds the site: generated parts are put in, and links out of ``docs/`` become paths."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from q2.exporters.kinds import EXPORTERS
from q2.search.kinds import ENGINES, STRATEGIES
from tools.site.api import api_page
from tools.site.commands import commands_page
from tools.site.things import (
    denoisers_table,
    errors_table,
    hooks_table,
    metrics_table,
    options_page,
    passes_page,
    plain_table,
    quantizers_table,
    settings_page,
)

__all__ = ["GENERATED", "expanded", "on_page_markdown", "part"]

ROOT = Path(__file__).parents[2]


def contributing_page() -> str:
    """Return ``CONTRIBUTING.md`` without its title, its links as a page of ``docs/`` has them."""
    _, _, text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n")
    return re.sub(r"\]\((?!https?:|#)(?:(docs/)|)([^)]+)\)", lambda at: f"]({'' if at[1] else '../'}{at[2]})", text)


GENERATED: dict[str, Callable[[], str]] = {
    "api": api_page,
    "commands": commands_page,
    "contributing": contributing_page,
    "denoisers": denoisers_table,
    "engines": lambda: options_page(ENGINES),
    "errors": errors_table,
    "exporters": lambda: plain_table(EXPORTERS),
    "hooks": hooks_table,
    "metrics": metrics_table,
    "passes": passes_page,
    "quantizers": quantizers_table,
    "settings": settings_page,
    "strategies": lambda: options_page(STRATEGIES),
}
"""What ``<!-- generated: name -->`` stands for in a page."""
_MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_NOT_RUN = re.compile(r"^( *)<!-- not run: ([^\n]*) -->$", re.MULTILINE)
_OUT = re.compile(r"\[([^\]]+)\]\(\.\./([^)#]+)(#[^)]*)?\)")


@cache
def part(name: str) -> str:
    """Return a generated part. Raises `KeyError` for a name that is none of `GENERATED`."""
    return GENERATED[name]()


def expanded(text: str) -> str:
    """Return a page with its generated parts."""
    return _MARKER.sub(lambda found: part(found[1]), text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return what mkdocs renders of a page."""
    return _OUT.sub(_path, _NOT_RUN.sub(r"\1Not run by the tests: \2.\n\1{ .not-run }\n", expanded(markdown)))


def _path(link: re.Match[str]) -> str:
    """Return a link into the repository as its path there. Raises `FileNotFoundError` where there is none."""
    label, path = link[1], link[2]
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"a page links to {path}, which is not there")
    named = label.strip("`")
    return f"`{path}`" if path.endswith(named) else f"{label} (`{path}`)"
