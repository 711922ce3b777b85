"""The table of what few trials add to summed errors: it ranks what was not learnt from."""

import importlib
from dataclasses import replace
from typing import Any

from tests.search.predictor.spaces import space, trials

errors: Any = importlib.import_module("benchmarks.errors")


def test_trials_are_ranked_by_what_was_learnt_from_others_and_errors_help() -> None:
    dit = space("dit")
    chosen, y = trials(dit, 90)
    assert errors.counts_of(len(y)) == [10, 25, 50]
    with_errors, without = (errors.ranked(each, chosen, y, draws=2) for each in (dit, replace(dit, errors=None)))
    assert len(with_errors) == len(without) == 4
    means = [[float(cell.split()[0]) for cell in cells] for cells in (with_errors, without)]
    assert all(mine > other for mine, other in zip(means[0][:3], means[1][:3], strict=True))
    assert means[0][-1] > 0.9
