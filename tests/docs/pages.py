"""The pages of the documentation, and their blocks of code."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = sorted((ROOT / "docs").glob("*.md"))
PAGES = [
    *SITE,
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "examples").glob("*/README.md")),
]
_FENCE = re.compile(
    r"^(?P<run><!-- run -->\n)?^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code: what language, the file that its title names, and whether the tests run it."""

    language: str
    text: str
    file: str
    run: bool
    line: int


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    text, found = page.read_text(encoding="utf-8"), []
    for each in _FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', each["rest"])
        line = text.count("\n", 0, each.start("language")) + 1
        found.append(Block(each["language"], each["text"], title[1] if title else "", bool(each["run"]), line))
    return found


def without_code(text: str) -> str:
    """Return a page without its blocks of code and its inline code."""
    return re.sub(r"(`+)[^`\n]+?\1", "", _FENCE.sub("", text))
