"""Blocks of code in the documentation: all are read, and those behind ``<!-- run -->`` are run, page by page."""

import doctest
import sys
from pathlib import Path

import pytest

from q2.cli import app
from tests.docs.checks import check_command, check_python, check_toml, command_lines
from tests.docs.pages import PAGES, ROOT, SITE, Block, blocks

SMALLER = {
    "samples.images=100": "samples.images=2 --set passes.stats.samples=1",
    "search.evaluation.images=50": "search.evaluation.images=2",
    "--trials 4": '--trials 2 --set \'bank.options=["uaq-4","uaq-3"]\' --set search.evaluation.steps=2'
    " --set search.engine.workers=1",
    "--n 4": "--n 1",
    "--out digits.html": "--out digits.html --no-graph",
    "num_inference_steps=12": "num_inference_steps=2",
}
"""What a run of the tests makes smaller in the commands of a page, so that it takes seconds."""
RUN = [page for page in SITE if any(block.run for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_name_what_there_is(page: Path) -> None:
    for block in blocks(page):
        try:
            check(block)
        except Exception as error:
            raise AssertionError(f"{page.name}, line {block.line}: {error}") from error


def check(block: Block) -> None:
    if block.language in ("", "bash", "sh", "console"):
        for words in command_lines(block.text):
            check_command(words)
    elif block.language == "toml":
        check_toml(block.text)
    elif block.language in ("python", "pycon"):
        check_python(block.text)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.run and block.file:
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
        elif block.run and block.text.startswith(">>>"):
            case = doctest.DocTestParser().get_doctest(block.text, names, page.name, page.name, block.line)
            assert doctest.DocTestRunner(verbose=False).run(case).failed == 0
        elif block.run and block.language == "python":
            exec(compile(smaller(block.text), f"{page.name}:{block.line}", "exec"), names)
        elif block.run:
            run_commands(block.text, monkeypatch)


def smaller(text: str) -> str:
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def run_commands(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in command_lines(smaller(text)):
        monkeypatch.setattr(sys, "argv", ["q2", *words])
        with pytest.raises(SystemExit) as stop:
            app()
        assert stop.value.code == 0, words
