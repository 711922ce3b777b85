"""Trace every denoiser class of diffusers at a tiny size and print the table of docs/denoisers.md.

    python -m benchmarks.trace_diffusers [--write] [NAME ...]

Each model has random weights; its graph is compared with eager at two batch sizes. --write puts the table into the
page.
"""

from __future__ import annotations

import argparse
import logging
import platform
import re
import sys
import warnings
from pathlib import Path

import diffusers
import torch

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


def table(names: list[str]) -> str:
    """Trace the classes and return their table, with what it was made with and what the counts are."""
    results = [zoo.run(name) for name in names]
    equal = sum(not result.failure for result in results)
    derived = sum(result.derived for result in results)
    made = f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"
    counts = f"{equal} of {len(results)} equal eager with a largest difference of 0; inputs are derived for {derived}."
    machine = "one CPU thread, while other work ran beside it"
    lines = [f"Made with {made}; {machine}. {counts}", "", HEAD, RULE, *map(row, results)]
    return "\n".join(lines)


def main() -> None:
    """Print the table; with --write put it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="classes; all if none is named")
    parser.add_argument("--write", action="store_true", help="rewrite the table of docs/denoisers.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    made = table(options.names or sorted(zoo.ZOO))
    sys.stdout.write(f"{made}\n")
    if options.write:
        text = PAGE.read_text("utf-8")
        page = re.sub(r"(<!-- table -->\n).*(<!-- end -->)", lambda m: f"{m[1]}{made}\n{m[2]}", text, flags=re.DOTALL)
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
