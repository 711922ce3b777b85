"""Run the blocks of a page in order, as a reader would: commands in this process, Python in one namespace."""

import doctest
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from q2.cli import app
from tests.docs.checks import check_toml, command_lines
from tests.docs.needed import NEEDED, NEEDED_BY_LONG, SMALL
from tests.docs.pages import ROOT, Block, blocks

SMALLER = {
    "samples.images=100": "samples.images=2 --set passes.stats.samples=1",
    "search.evaluation.images=50": "search.evaluation.images=2",
    "--strategy ilp-error --trials 4": '--strategy ilp-error --trials 2 --set \'bank.options=["uaq-4","uaq-3"]\''
    " --set search.evaluation.steps=2 --set search.engine.workers=1",
    "q2 transform --passes": "q2 transform --set samples.images=0 --passes",
    "--n 4": "--n 1",
    "--n 8": "--n 2",
    "--out digits.html": "--out digits.html --no-graph",
    "--out far.html": "--out far.html --no-graph",
    "num_inference_steps=12": "num_inference_steps=2",
    "digits.generate(10": "digits.generate(1",
    "RUN 17": "RUN 1",
    "../sdxl": str(ROOT / "q2" / "denoisers" / "assets" / "digits-sdxl"),
}
"""What a run of the tests makes smaller in the blocks of a page, so that it takes seconds."""
ADDED = {
    "transform": "--set samples.images=2",
    "search": SMALL,
    "bank": SMALL,
    "evaluate": "--set search.evaluation.images=20 --set search.evaluation.steps=2",
    "predictor train": "--folds 2 --epochs 1",
}
"""What is added to the long commands of a page."""
FEWER = re.compile(r'(--trials |"search.trials": )\d+')


def run_page(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Block], bool]) -> None:
    """Run the blocks of a page that are `wanted`, in `folder`; what it needs beforehand is made there first."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names: dict[str, object] = {"__name__": "a_page"}
    chosen = [block for block in blocks(page) if wanted(block)]
    needed = NEEDED_BY_LONG.get(page.name, ()) if any(block.long for block in chosen) else ()
    for prepare in (*NEEDED.get(page.name, ()), *needed):
        names |= prepare(lambda text: run_command(shlex.split(text), monkeypatch)) or {}
    for block in chosen:
        try:
            run_block(block, names, page, monkeypatch)
        except Exception as error:
            raise AssertionError(f"{page.name}, line {block.line}: {type(error).__name__}: {error}") from error


def run_block(block: Block, names: dict[str, object], page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one block: write the file that its title names, or run its commands or its code."""
    text = fewer_trials(smaller(block.text)) if block.long else smaller(block.text)
    if block.file:
        Path(block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "toml":
        check_toml(block.text)
    elif block.language == "bash":
        for words in command_lines(text):
            run_command(words if block.quick else [*words, *added(words)], monkeypatch)
    elif block.text.startswith(">>>"):
        case = doctest.DocTestParser().get_doctest(block.text, names, page.name, page.name, block.line)
        assert doctest.DocTestRunner(verbose=False).run(case).failed == 0
    elif block.language == "python":
        exec(compile(text, f"{page.name}:{block.line}", "exec"), names)


def smaller(text: str) -> str:
    """Return a block with less to do."""
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    return text


def fewer_trials(text: str) -> str:
    """Return a long block with few trials, on few images where it is Python."""
    sets = dict(part.split("=", 1) for part in shlex.split(SMALL) if part != "--set")
    python = ", ".join(f'"{key}": {value}' for key, value in sets.items())
    return FEWER.sub(lambda at: f"{at[1]}14" if at[1].startswith("--") else f"{at[1]}14, {python}", text)


def added(words: list[str]) -> list[str]:
    """Return the options that make a long command shorter."""
    if "--dry-run" in words:
        return []
    options = next((text for name, text in ADDED.items() if words[: len(name.split())] == name.split()), "")
    strategy = ["--set", "search.strategies.predictor.folds=2"] if words[0] == "search" else []
    trials = ["--trials", "14"] if words[0] == "search" and "--trials" not in words else []
    return [*shlex.split(options), *strategy, *trials]


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of q2 in this process. Raises `AssertionError` where it does not end with 0."""
    monkeypatch.setattr(sys, "argv", ["q2", *words])
    with pytest.raises(SystemExit) as stop:
        app()
    assert stop.value.code in (0, None), words
