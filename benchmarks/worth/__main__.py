"""What a network is worth beside simpler predictors: tables of Spearman's correlation, five seeds, 95 % intervals.

    python -m benchmarks.worth DATA/digits-dit                       # simple predictors; `--seeds 5`
    python -m benchmarks.worth DATA/digits-dit --networks            # networks, with several features; `--counts 150`

`benchmarks.worth.export` makes the folders. A third of the trials is tested on, the others are given to learn from.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.worth.data import Trials
from benchmarks.worth.simple import SIMPLE, Learn
from benchmarks.worth.tables import COUNTS, interval, print_table, ranks


def main() -> None:
    """Print the tables of every folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", action="store_true")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--only", help="learners with this in their name")
    given = parser.parse_args()
    for folder in given.folders:
        trials = Trials.load(folder)
        print(f"{trials.name}: {len(trials.y)} trials, {len(trials.space.choices)} choices")
        learners = dict(SIMPLE)
        if not np.isfinite(trials.alone).any():
            del learners["summed noise, measured alone"]
        if given.networks:
            from benchmarks.worth.networks import NETWORKS

            learners = dict(NETWORKS)
        wanted = {name: learn for name, learn in learners.items() if not given.only or given.only in name}
        _tables(trials, wanted, given.counts, given.seeds)


def _tables(trials: Trials, learners: Mapping[str, Learn], wanted: Sequence[int], seeds: int) -> None:
    counts = [count for count in wanted if count <= 2 * len(trials.y) / 3]
    scores, labels = dict[str, list[str]](), dict[str, list[str]]()
    for name, learn in learners.items():
        start = time.perf_counter()
        cells, second = [], []
        for count in counts:
            found = ranks(trials, learn, count, seeds)
            cells.append(interval(found[0]))
            second += [interval(found[1]), interval(found[2])]
        scores[name] = [*cells, f"{(time.perf_counter() - start) / seeds / len(counts):.2f}"]
        if second[0]:
            labels[name] = second
    print_table(["Spearman with trials", *map(str, counts), "seconds"], scores)
    if labels:
        print_table(["labels", *(f"{text} {count}" for count in counts for text in ("Spearman", "tenth"))], labels)


if __name__ == "__main__":
    main()
