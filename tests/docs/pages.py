"""The pages of the documentation, and their blocks of code.

A block is run by the tests. One behind ``<!-- long -->`` takes longer: `make blocks` runs it. One that needs weights, a
GPU, a network or hours is behind ``<!-- not run: REASON -->``, and the site shows the reason.
"""

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
REASONS = (
    "needs published weights",
    "needs published weights and a GPU",
    "needs several machines",
    "needs other packages",
    "needs a file of Qua²SeDiMo",
    "installs packages",
    "installs packages; `make wheel` does the same",
    "takes most of an hour",
    "takes hours",
)
"""What may stand behind ``not run:``."""
_FENCE = re.compile(
    r"^(?P<mark> *<!-- (?:(?P<long>long)|not run: (?P<reason>[^\n]*)) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code: its language, the file that its title names, and whether and when it is run."""

    language: str
    text: str
    file: str
    long: bool
    reason: str
    line: int

    @property
    def quick(self) -> bool:
        """Whether the tests run it, beside those that `make blocks` runs."""
        return not self.long and not self.reason


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    return blocks_of(page.read_text(encoding="utf-8"))


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of code of a text, in order."""
    found = []
    for each in _FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', each["rest"])
        line = text.count("\n", 0, each.start("language")) + 1
        file, reason = title[1] if title else "", each["reason"] or ""
        found.append(Block(each["language"], each["text"], file, bool(each["long"]), reason, line))
    return found


def without_code(text: str) -> str:
    """Return a page without its blocks of code and its inline code."""
    return re.sub(r"(`+)[^`\n]+?\1", "", _FENCE.sub("", text))
