"""The loop's budget is of trials at the search's own fidelity; whatever happens, the searcher is closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from q2.errors import Q2Error
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.trials.trial import Trial
from tests.search.strategies.tiny import Fake, problem, search


@dataclass(frozen=True)
class Doubled(Strategy):
    """Every recipe at a cheaper fidelity first."""

    name: ClassVar[str] = "doubled"

    def searcher(self, problem: Problem) -> Searcher:
        return _Doubled(problem)


class _Doubled(Searcher):
    closed = 0

    def __init__(self, problem: Problem) -> None:
        self.problem, self.drawn, self.cheap = problem, 0, False

    def ask(self, most: int) -> Sequence[Proposal]:
        self.cheap = not self.cheap
        self.drawn += self.cheap
        recipe = self.problem.space.draw(0, self.drawn)
        return [Proposal(recipe, "forward" if self.cheap else None)]

    def tell(self, trials: Sequence[Trial]) -> None:
        assert trials[0].fidelity == ("forward" if self.cheap else "full")

    def close(self) -> None:
        _Doubled.closed += 1


def test_cheaper_trials_are_no_part_of_the_budget(tmp_path: Path) -> None:
    done = search(Doubled(), problem(3), engine := Fake(), tmp_path / "trials")
    assert [job.fidelity for job in engine.jobs] == ["forward", "full"] * 3
    assert [trial.number for trial in done.trials] == list(range(6))


def test_a_searcher_is_closed_where_the_search_fails(tmp_path: Path) -> None:
    _Doubled.closed = 0
    search(Doubled(), problem(1), Fake(), tmp_path / "trials")
    assert _Doubled.closed == 1
    with pytest.raises(Q2Error, match="made to fail"):
        search(Doubled(), problem(9), Fake(fails=_raise), tmp_path / "trials")
    assert _Doubled.closed == 2


def _raise(job: object) -> bool:
    raise Q2Error("made to fail")
