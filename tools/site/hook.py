"""What mkdocs calls while it builds the site: generated parts are put in, and links out of ``docs/`` become paths."""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from q2.exporters.kinds import EXPORTERS
from q2.search.kinds import ENGINES, STRATEGIES
from tools.site.api import api_page
from tools.site.commands import commands_page
from tools.site.pictures import PICTURES, drawn, with_pictures
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

__all__ = ["GENERATED", "expanded", "on_files", "on_page_content", "on_page_markdown", "on_post_page", "part"]

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
_NO_HEADER = re.compile(r"<th([^>]*)>\s*</th>")
_NO_HEAD = re.compile(r"<thead>\s*<tr>(?:\s*<td[^>]*></td>)+\s*</tr>\s*</thead>\s*")
_NAVIGATION = re.compile(r'(<nav[^>]* aria-label=")([^"]*)"')
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
    text = _NOT_RUN.sub(r"\1Not run by the tests: \2.\n\1{ .not-run }\n", with_pictures(expanded(markdown)))
    return _OUT.sub(_path, text)


def on_page_content(html: str, **_: Any) -> str:
    """Return a page's HTML without table headers that say nothing, which screen readers would announce."""
    return _NO_HEAD.sub("", _NO_HEADER.sub(r"<td\1></td>", html))


def on_post_page(output: str, **_: Any) -> str:
    """Return a page whose navigations all have a name of their own: those of one name are numbered."""
    seen: Counter[str] = Counter()

    def named(found: re.Match[str]) -> str:
        seen[found[2]] += 1
        return found[0] if seen[found[2]] == 1 else f'{found[1]}{found[2]} ({seen[found[2]]})"'

    return _NAVIGATION.sub(named, output)


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures to the files of the site; those of the README are not among them."""
    from mkdocs.structure.files import File

    for name in PICTURES:
        files.append(File.generated(config, f"pictures/{name}", abs_src_path=str(drawn(name))))
    return files


def _path(link: re.Match[str]) -> str:
    """Return a link into the repository as its path there. Raises `FileNotFoundError` where there is none."""
    label, path = link[1], link[2]
    if not (ROOT / path).exists():
        raise FileNotFoundError(f"a page links to {path}, which is not there")
    named = label.strip("`")
    return f"`{path}`" if path.endswith(named) else f"{label} (`{path}`)"
