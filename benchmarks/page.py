"""A table that a benchmark makes of named things, printed, and put into its page of the docs if asked for."""

import argparse
import logging
import platform
import re
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import diffusers
import torch

__all__ = ["MADE", "main"]

MADE = f"Made with torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"


def main(about: str | None, page: Path, names: Collection[str], table: Callable[[Sequence[str]], str]) -> None:
    """Print the table of the names on the command line, of all if none is there; with --write put it into `page`."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("names", nargs="*", help="what to run; all if nothing is named")
    parser.add_argument("--write", action="store_true", help=f"rewrite the table of docs/{page.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    made = table(options.names or sorted(names))
    sys.stdout.write(f"{made}\n")
    if options.write:
        text = page.read_text("utf-8")
        whole = re.sub(r"(<!-- table -->\n).*(<!-- end -->)", lambda m: f"{m[1]}{made}\n{m[2]}", text, flags=re.DOTALL)
        page.write_text(whole, "utf-8")
