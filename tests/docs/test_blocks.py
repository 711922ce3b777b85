"""Blocks of code in the documentation: all are read, and those without a mark are run, page by page."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.checks import check_block
from tests.docs.pages import PAGES, REASONS, ROOT, Block, blocks, blocks_of, without_code
from tests.docs.running import run_page

SAYS = {"passes.md": ("2.76 MB, 4.108 bits a weight", "torch.Size([64, 64])")}
"""What the blocks of a page print."""


def test_every_block_runs_or_says_why_not() -> None:
    unclear = []
    for page in PAGES:
        for block in blocks(page):
            known = block.language in ("bash", "python", "toml", "json", "text")
            if not known or (block.reason and block.reason not in REASONS):
                unclear.append(f"{page.relative_to(ROOT)}, line {block.line}: {block.language} {block.reason}")
    assert unclear == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_is_indented_text(page: Path) -> None:
    lines = ["", *without_code(page.read_text(encoding="utf-8")).splitlines()]
    assert [line for before, line in pairwise(lines) if not before.strip() and re.match(r" {4}\S", line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_name_what_there_is(page: Path) -> None:
    for block in blocks(page):
        try:
            check_block(block)
        except Exception as error:
            raise AssertionError(f"{page.name}, line {block.line}: {error}") from error


def quick(block: Block) -> bool:
    return block.quick and block.language in ("bash", "python", "toml")


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(quick(block) and block.language != "toml" for block in blocks(page))],
    ids=lambda page: page.name,
)
def test_blocks_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_page(page, tmp_path, monkeypatch, quick)
    printed = capsys.readouterr().out
    assert [words for words in SAYS.get(page.name, ()) if words not in printed] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```bash\npip install q2\n```\n", "runs 'pip', which is no command of q2"),
        ("```bash\nq2 sample --number 3\n```\n", "no such option: --number"),
        ("```bash\nq2 sample --n many\n```\n", "Invalid value for '--n'"),
        ("```bash\nq2 transform --set passes.quantise.default=uaq-4\n```\n", "no pass"),
        ("```python\nimport torchh\n```\n", "torchh"),
        ("```python\nfrom q2 import trase\n```\n", "trase"),
        ("```toml\n[search.strategies.evolution]\npopulatoin = 3\n```\n", "population"),
        ('```json\n{"a": }\n```\n', "Expecting value"),
    ],
)
def test_a_block_that_is_wrong_is_found(text: str, said: str) -> None:
    (block,) = blocks_of(text)
    with pytest.raises(Exception, match=".") as error:
        check_block(block)
    assert said.lower() in str(error.value).lower()
