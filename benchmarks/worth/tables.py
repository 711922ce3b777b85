"""Splits and tables: mean and half the 95 % interval over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy.stats import t

from benchmarks.worth.data import Trials
from benchmarks.worth.simple import Learnt
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.losses import srcc

__all__ = ["COUNTS", "found", "interval", "print_table", "ranks", "splits"]

COUNTS = (25, 50, 150, 300)


def splits(trials: Trials, seeds: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield for every seed the trials to learn from, in the order in which they are given, and a third to test."""
    count = len(trials.y)
    for seed in range(seeds):
        order = np.random.default_rng([seed, count]).permutation(count)
        yield order[count // 3 :], order[: count // 3]


def ranks(
    trials: Trials, learn: Callable[[Trials, Ints], Learnt], count: int, seeds: int
) -> tuple[list[float], list[float], list[float]]:
    """Return by seed Spearman on the test part, Spearman of spreads with what was measured, and the tenth found."""
    scores, labels, tenths = [], [], []
    truth = trials.sensitivities()
    for rest, test in splits(trials, seeds):
        learnt = learn(trials, rest[:count])
        scores.append(srcc(trials.y[test], learnt.predict(trials.chosen[test])))
        if learnt.spread is not None and np.isfinite(truth).all():
            labels.append(srcc(truth, learnt.spread))
            tenths.append(found(truth, learnt.spread))
    return scores, labels, tenths


def found(truth: Floats, spread: Floats) -> float:
    """Return the share of the most sensitive tenth of the choices that is among as many by `spread`."""
    most = max(1, round(0.1 * len(truth)))
    first, second = (set(np.argsort(-values, kind="stable")[:most].tolist()) for values in (truth, spread))
    return len(first & second) / most


def interval(values: Sequence[float]) -> str:
    """Return the mean and half the 95 % interval (Student's t); empty for none."""
    if not values:
        return ""
    half = float(t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ± {half:.3f}"


def print_table(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    """Print a Markdown table."""
    print("|", " | ".join(head), "|")
    print("|", " | ".join("---" for _ in head), "|")
    for name, cells in rows.items():
        print("|", " | ".join([name, *cells]), "|", flush=True)
    print()
