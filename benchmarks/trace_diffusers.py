"""Trace every denoiser class of diffusers at a tiny size and print the table of docs/denoisers.md.

    python -m benchmarks.trace_diffusers [--write] [NAME ...]

Each model has random weights; its graph is compared with eager at two batch sizes. --write puts the table into the
page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.page import MADE, main
from tests.graph import zoo

PAGE = Path(__file__).parents[1] / "docs" / "denoisers.md"
HEAD = "| class | inputs | traced | weight layers | nodes | seconds | batch sizes 2 and 3 |"
RULE = "| --- | --- | --- | ---: | ---: | ---: | --- |"


def row(result: zoo.Result) -> str:
    """Return the line of one class."""
    inputs = "derived" if result.derived else "given"
    if result.failure:
        return f"| `{result.name}` | {inputs} | no | | | | fails: {result.failure.partition(': ')[2]} |"
    equal = "equal" if result.variants == 1 else "equal, traced again for the other"
    numbers = f"{result.layers} | {result.nodes} | {result.seconds:.2f}"
    return f"| `{result.name}` | {inputs} | yes | {numbers} | {equal} |"


def table(names: Sequence[str]) -> str:
    """Trace the classes and return their table, with what it was made with and what the counts are."""
    results = [zoo.run(name) for name in names]
    equal = sum(not result.failure for result in results)
    derived = sum(result.derived for result in results)
    counts = f"{equal} of {len(results)} equal eager with a largest difference of 0; inputs are derived for {derived}."
    machine = "one CPU thread, while other work ran beside it"
    lines = [f"{MADE}; {machine}. {counts}", "", HEAD, RULE, *map(row, results)]
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, PAGE, zoo.ZOO, table)
