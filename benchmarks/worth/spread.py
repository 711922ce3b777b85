"""Does an ensemble's spread say what to try next? A pool of measured trials, from which batches are taken.

    python -m benchmarks.worth.spread DATA/digits-dit

After 25 random trials, three batches of 25 of the rest: at random, those of the highest mean prediction of five fits
(each of four fifths of the trials), of mean plus spread, and of the widest spread. Printed are Spearman on the test
part of a fit of all trials taken, and how far the best trial taken is below the best of the pool, in dB.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.worth.data import Trials
from benchmarks.worth.simple import noise_of_trials
from benchmarks.worth.tables import interval, print_table, splits
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.losses import srcc

_BATCH, _BATCHES, _FOLDS = 25, 3, 5


def main() -> None:
    """Print the table of every folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    for folder in given.folders:
        trials = Trials.load(folder)
        rows = {}
        for how in ("random", "mean", "mean + spread", "spread"):
            runs = [_run(trials, rest, test, how) for rest, test in splits(trials, given.seeds)]
            rows[how] = [interval([run[0] for run in runs]), interval([run[1] for run in runs])]
        print_table([f"{trials.name}, 100 trials taken by", "Spearman", "below the pool's best, dB"], rows)


def _run(trials: Trials, pool: Ints, test: Ints, how: str) -> tuple[float, float]:
    taken = pool[:_BATCH]
    for _ in range(_BATCHES):
        left = pool[~np.isin(pool, taken)]
        mean, spread = _ensemble(trials, taken, left)
        score = {"random": np.zeros(len(left)), "mean": mean, "mean + spread": mean + spread, "spread": spread}[how]
        taken = np.concatenate([taken, left[np.argsort(-score, kind="stable")[:_BATCH]]])
    fit = noise_of_trials(trials, taken)
    rank = srcc(trials.y[test], fit.predict(trials.chosen[test]))
    return rank, float(trials.y[pool].max() - trials.y[taken].max())


def _ensemble(trials: Trials, taken: Ints, left: Ints) -> tuple[Floats, Floats]:
    parts = [taken[np.arange(len(taken)) % _FOLDS != fold] for fold in range(_FOLDS)]
    found = np.array([noise_of_trials(trials, part).predict(trials.chosen[left]) for part in parts])
    return found.mean(0), found.std(0)


if __name__ == "__main__":
    main()
