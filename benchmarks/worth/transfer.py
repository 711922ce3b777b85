"""One network trained on trials of several denoisers, used on another with 0, 25, 50 and 150 of its trials.

    python -m benchmarks.worth.transfer DATA/digits-dit DATA/dit-2x6 DATA/dit-3x4 DATA/scenes-sd3     # `--kinds`

Every folder is the unseen one in turn. Without trials recipes are ranked by the summed output errors, each times what
the network says; with some, the noise fit starts from there. Sensitivities are learnt from all trials of the others.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.worth.data import Trials
from benchmarks.worth.shared import Kind, train_shared
from benchmarks.worth.simple import SIMPLE, Learn, Learnt, noise_of_trials
from benchmarks.worth.tables import found, interval, print_table, splits
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.losses import srcc

COUNTS = (0, 25, 50, 150)
_KINDS: dict[str, tuple[Kind, bool]] = {
    "shared network, graph": ("graph", True),
    "shared network, layers by themselves": ("alone", True),
    "shared linear function": ("linear", True),
    "shared network, graph, no activations": ("graph", False),
}
_SIMPLE = ("linear additive fit", "noise fit")


def main() -> None:
    """Print a table for every folder as the unseen denoiser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="names of folders to be the unseen one")
    parser.add_argument("--kinds", nargs="+", default=list(_KINDS), choices=list(_KINDS))
    given = parser.parse_args()
    every = [Trials.load(folder) for folder in given.folders]
    for target in every:
        if not given.only or target.name in given.only:
            others = [trials for trials in every if trials.name != target.name]
            print(f"{target.name}, unseen; known: {', '.join(other.name for other in others)}")
            _table(target, others, given.seeds, {name: _KINDS[name] for name in given.kinds})


def _table(target: Trials, others: Sequence[Trials], seeds: int, kinds: Mapping[str, tuple[Kind, bool]]) -> None:
    priors = {
        name: [_prior(target, others, kind, activations, seed) for seed in range(seeds)]
        for name, (kind, activations) in kinds.items()
    }
    rows: dict[str, list[str]] = {"summed output error": _row(target, [SIMPLE["summed output error"]] * seeds, (0,))}
    if np.isfinite(target.sensitivities()).all():
        rows["summed noise, measured alone"] = _row(target, [SIMPLE["summed noise, measured alone"]] * seeds, (0,))
    rows |= {name: ["", *_row(target, [SIMPLE[name]] * seeds, COUNTS[1:])] for name in _SIMPLE}
    for name, logs in priors.items():
        rows[name] = _row(target, [partial(_from, logs=own) for own in logs], COUNTS)
    print_table([f"{target.name}: Spearman with trials", *map(str, COUNTS)], rows)
    truth = target.sensitivities()
    if np.isfinite(truth).all():
        spreads = {name: [(target.errors.max(1) * np.exp(own)) for own in logs] for name, logs in priors.items()}
        print_table(["labels without trials", "Spearman", "tenth"], {
            name: [interval([srcc(truth, own) for own in each]), interval([found(truth, own) for own in each])]
            for name, each in ({"summed output error": [target.errors.max(1)] * seeds} | spreads).items()
        })  # fmt: skip


def _prior(target: Trials, others: Sequence[Trials], kind: Kind, activations: bool, seed: int) -> Floats:
    known = [(other, np.arange(len(other.y))) for other in others]
    return np.asarray(train_shared(known, target, kind, activations=activations, seed=seed).mean(0))


def _from(trials: Trials, known: Ints, *, logs: Floats) -> Learnt:
    if not len(known):
        table = trials.errors * np.exp(logs)[:, None]
        return Learnt(lambda chosen: np.asarray(-trials.picked(table, chosen).sum(-1)))
    return Learnt(noise_of_trials(trials, known, logs).predict)


def _row(
    target: Trials, learners: Sequence[Learn | Callable[[Trials, Ints], Learnt]], counts: Sequence[int]
) -> list[str]:
    cells = []
    for count in counts:
        pairs = zip(splits(target, len(learners)), learners, strict=True)
        cells.append(
            interval(
                [
                    srcc(target.y[test], learn(target, rest[:count]).predict(target.chosen[test]))
                    for (rest, test), learn in pairs
                ]
            )
        )
    return cells


if __name__ == "__main__":
    main()
