"""Take tiny pipelines of diffusers the whole way and print the table of docs/pipelines.md.

    python -m benchmarks.pipelines [--write] [NAME ...]

Each is built from configs with random weights, quantized, saved, loaded, drawn, compared with its original, searched
with four trials at two fidelities, calibrated and exported. --write puts the table into the page.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.page import MADE, main
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


def table(names: Sequence[str]) -> str:
    """Take the pipelines the whole way and return their table, with what it was made with."""
    lines, complete = [], 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            found = whole(name, PIPELINES[name], Path(folder))
        complete += len(found.done) == len(STAGES)
        lines.append(row(found))
        sys.stderr.write(f"{lines[-1]}\n")
    counts = f"{complete} of {len(names)} go the whole way."
    return "\n".join([f"{MADE}; one CPU thread, while other work ran beside it. {counts}", "", HEAD, RULE, *lines])


if __name__ == "__main__":
    main(__doc__, PAGE, {*PIPELINES} - {*PLUGIN}, table)
