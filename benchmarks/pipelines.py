"""Take tiny pipelines of diffusers the whole way and print the table of docs/pipelines.md.

    python -m benchmarks.pipelines [--write] [NAME ...]

Each is built from configs with random weights, quantized, saved, loaded, drawn, compared with its original, searched
with four trials at two fidelities, calibrated and exported. --write puts the table into the page.
"""

from __future__ import annotations

import argparse
import logging
import platform
import re
import sys
import tempfile
import warnings
from pathlib import Path

import diffusers
import torch

from tests.denoisers.pipelines.all import PIPELINES
from tests.denoisers.pipelines.whole import STAGES, Whole, whole

PAGE = Path(__file__).parents[1] / "docs" / "pipelines.md"
HEAD = "| pipeline | what | works | images in a call | weight layers | seconds |"
RULE = "| --- | --- | --- | --- | ---: | ---: |"
PLUGIN = ("KandinskyV22Pipeline",)  # needs a plugin, which tests/denoisers/pipelines/test_whole.py has


def row(found: Whole) -> str:
    """Return the line of one pipeline."""
    works = "all" if len(found.done) == len(STAGES) else f"{', '.join(found.done) or 'nothing'}; {found.failure}"
    calls = "one" if found.alone else "a batch"
    return f"| `{found.name}` | {found.what} | {works} | {calls} | {found.layers} | {found.seconds:.1f} |"


def table(names: list[str]) -> str:
    """Take the pipelines the whole way and return their table, with what it was made with."""
    lines, complete = [], 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = whole(name, PIPELINES[name], Path(folder))
        complete += len(found.done) == len(STAGES)
        lines.append(row(found))
        sys.stderr.write(f"{lines[-1]}\n")
    made = f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"
    counts = f"{complete} of {len(names)} go the whole way."
    return "\n".join(
        [f"Made with {made}; one CPU thread, while other work ran beside it. {counts}", "", HEAD, RULE, *lines]
    )


def main() -> None:
    """Print the table; with --write put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="pipelines; all if none is named")
    parser.add_argument("--write", action="store_true", help="rewrite the table of docs/pipelines.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    made = table(options.names or sorted({*PIPELINES} - {*PLUGIN}))
    sys.stdout.write(f"{made}\n")
    if options.write:
        text = PAGE.read_text("utf-8")
        page = re.sub(r"(<!-- table -->\n).*(<!-- end -->)", lambda m: f"{m[1]}{made}\n{m[2]}", text, flags=re.DOTALL)
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
