"""The blocks of docs/passes.md run, in order, in one namespace, as a reader would paste them."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "passes.md").read_text(encoding="utf-8")


def test_every_python_block_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, Any] = {"__name__": __name__}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"docs/passes.md, block {number}", "exec"), names)
    said = capsys.readouterr().out
    assert "2.76 MB, 4.108 bits a weight" in said
    assert "torch.Size([64, 64])" in said
