"""Measures of q2's speed, as ratios, into one JSON file and a page of the docs; or compared with the stored ones.

    python -m benchmarks.run [NAME …] [--quick] [--rounds N] [--out FILE] [--write]
    python -m benchmarks.run --quick --check

`--write` stores the results in benchmarks/results.json, beside those of measures that were not run, and makes
docs/benchmarks.md. `--check` fails where a ratio is twice (`--times`) the stored one; a measure that is worse is run
once more first, and its better result counts.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.suite.measure import Measure, Result, measured
from benchmarks.suite.measures import MEASURES
from benchmarks.suite.results import STORED, Results, page, said, worse

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(each.name for each in MEASURES))
    parser.add_argument("--quick", action="store_true", help="the quick part alone")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the results there, too")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--times", type=float, default=2.0)
    given = parser.parse_args()
    if unknown := set(given.names) - {each.name for each in MEASURES}:
        parser.error(f"no measure {', '.join(sorted(unknown))}")
    chosen = [each for each in MEASURES if (each.name in given.names if given.names else each.quick or not given.quick)]
    with alone():
        found = {each.name: shown(each, given.rounds) for each in chosen}
    if given.out:
        Results.here(found).save(given.out)
    if given.write:
        every = {**(Results.load().measures if STORED.exists() else {}), **found}
        results = Results.here({each.name: every[each.name] for each in MEASURES if each.name in every})
        results.save(STORED)
        PAGE.write_text(page(results), "utf-8")
    if given.check:
        with alone():
            worse_ones = check(found, given)
        raise SystemExit(worse_ones)


@contextmanager
def alone() -> Iterator[None]:
    """Compute in one thread, without gradients, warnings and logs meanwhile."""
    threads, level = torch.get_num_threads(), logging.root.manager.disable
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
        logging.disable(level)


def shown(measure: Measure, rounds: int) -> Result:
    """Measure, and print a line."""
    start = time.perf_counter()
    result = measured(measure, rounds)
    took = time.perf_counter() - start
    line = f"{result.what}, beside {result.beside}; rounds {result.low:.3g} to {result.high:.3g}; {took:.0f} s"
    print(f"{measure.name:<18} {said(result):<20} {line}", flush=True)
    return result


def check(found: dict[str, Result], given: argparse.Namespace) -> int:
    """Compare with the stored results; return how many are worse, and print which."""
    stored = Results.load().measures
    again = [m for m in MEASURES if m.name in found and worse({m.name: found[m.name]}, stored, given.times)]
    for each in again:
        second = shown(each, given.rounds)
        found[each.name] = min(found[each.name], second, key=lambda result: result.ratio)
    lines = worse(found, stored, given.times)
    print(*lines, sep="\n")
    return len(lines)


if __name__ == "__main__":
    main()
