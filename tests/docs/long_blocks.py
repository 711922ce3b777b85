"""What takes too long for the tests: `make blocks` runs every block of every page that is not marked as not run."""

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, blocks
from tests.docs.running import run_page


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.long for block in blocks(page))],
    ids=lambda page: page.name,
)
def test_all_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, tmp_path, monkeypatch, lambda block: not block.reason)
