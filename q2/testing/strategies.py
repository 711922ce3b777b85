"""What every strategy must do, as tests that its own inherit."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from q2.search.engines.base import Engine
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.loop import SearchRun, run
from q2.search.strategies.base import Problem, Proposal, Strategy
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.settings import EngineSettings
from q2.testing.options import OptionsSuite
from q2.testing.problems import OPTIONS, tiny_problem, trial_of

__all__ = ["StrategySuite"]


class StrategySuite(OptionsSuite):
    """Tests of a strategy: a subclass called ``Test…`` sets `strategy`, and pytest finds the rest.

    `random` says that another seed gives other recipes, `options` and `trials` are of the problem that it searches. A
    strategy that needs another problem overrides `problem`. Trials at cheaper fidelities are no part of the budget;
    here they all go well, and have ``SQNR`` and ``latent-SQNR``.
    """

    strategy: ClassVar[Strategy]
    random: ClassVar[bool] = False
    options: ClassVar[tuple[str, ...]] = OPTIONS
    trials: ClassVar[int] = 24

    def thing(self) -> Strategy:
        """Return the strategy."""
        return self.strategy

    def problem(self, *, seed: int = 0, constraints: Sequence[str] = ()) -> Problem:
        """Return the problem to search: six layers in two units."""
        return tiny_problem(options=self.options, trials=self.trials, seed=seed, constraints=constraints)

    def tiny(self) -> Problem:
        """Return a problem of two recipes: every layer but one is fixed."""
        first, *_ = self.options
        problem = tiny_problem(options=self.options[:2], trials=self.trials, layers={"attn|ff.up": [first]})
        assert problem.space.size == 2
        return problem

    def history(
        self,
        problem: Problem,
        *,
        most: int | None = None,
        fails: Callable[[int], bool] = lambda number: False,
        seconds: float = 0.0,
    ) -> list[list[Trial]]:
        """Search to the end, asking for `most` at a time; return what was told after every ask."""
        searcher = self.strategy.searcher(problem)
        told: list[list[Trial]] = []
        done = 0
        while done < problem.trials:
            wanted = min(most or problem.trials, problem.trials - done)
            asked = searcher.ask(wanted)
            counted = sum((each.fidelity or problem.fidelity) == problem.fidelity for each in asked)
            assert counted <= wanted, "more recipes than were asked for"
            if not asked:
                break
            trials = [_trial(problem, each, done + i, fails, seconds) for i, each in enumerate(asked)]
            searcher.tell(trials)
            done += counted
            if counted:
                told.append([trial for trial in trials if trial.fidelity == problem.fidelity])
        assert done, "no recipe at all"
        return told

    @pytest.mark.parametrize("most", [None, 1, 5])
    def test_it_proposes_recipes_of_the_space_and_no_more_than_asked(self, most: int | None) -> None:
        """However many are asked for, it proposes at most as many, all of them whole recipes."""
        problem = self.problem()
        for trial in _flat(self.history(problem, most=most)):
            problem.space.encode(trial.recipe)
            assert set(trial.recipe) == set(problem.space.layers)

    def test_one_seed_gives_one_search(self) -> None:
        """The same seed gives the same recipes; another seed others, if the strategy is random."""
        first, second = self.history(self.problem()), self.history(self.problem())
        assert _recipes(first) == _recipes(second)
        other = _recipes(self.history(self.problem(seed=1)))
        assert (other != _recipes(first)) == self.random

    def test_what_it_asks_does_not_depend_on_how_long_trials_took(self) -> None:
        """Trials may be fast or slow, the recipes are the same."""
        assert _recipes(self.history(self.problem(), seconds=9.0)) == _recipes(self.history(self.problem()))

    def test_numpys_own_random_numbers_do_not_matter(self) -> None:
        """It neither uses NumPy's global random numbers nor changes their state."""
        first = self.history(self.problem())
        np.random.default_rng()
        state = np.random.get_state()
        try:
            np.random.seed(1)
            assert _recipes(self.history(self.problem())) == _recipes(first)
            np.random.seed(1)
            untouched = np.random.get_state(legacy=False)["state"]["key"]
            self.history(self.problem())
            assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], untouched)
        finally:
            np.random.set_state(state)

    def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(self, tmp_path: Path) -> None:
        """After Ctrl-C the search goes on with the same recipes, and measures only what it has not."""
        problem = self.problem()
        whole = self._run(problem, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            self._run(problem, tmp_path / "stopped", stop_after=len(whole.trials) // 2)
        resumed = self._run(problem, tmp_path / "stopped")
        assert [trial.recipe for trial in resumed.trials] == [trial.recipe for trial in whole.trials]
        assert resumed.measured == whole.measured - len(whole.trials) // 2

    def test_a_search_that_is_done_measures_nothing_when_repeated(self, tmp_path: Path) -> None:
        """A second search over the same store asks for the same recipes, which are all there."""
        problem = self.problem()
        first = self._run(problem, tmp_path / "store")
        again = self._run(problem, tmp_path / "store")
        assert again.measured == 0
        assert [trial.recipe for trial in again.trials] == [trial.recipe for trial in first.trials]

    @pytest.mark.parametrize("every", [1, 3])
    def test_it_survives_failed_trials(self, every: int) -> None:
        """Some or all trials may fail; it goes on with recipes of the space."""
        problem = self.problem()
        for trial in _flat(self.history(problem, most=8, fails=lambda number: number % every == 0)):
            problem.space.encode(trial.recipe)

    def test_it_goes_on_after_the_first_trials_have_all_failed(self) -> None:
        """The first half fails, as where options overflow; it has its trials all the same, if there are recipes."""
        problem = self.problem()
        whole = _flat(self.history(problem, most=4))
        found = _flat(self.history(problem, most=4, fails=lambda number: number < len(whole) // 2))
        assert len(found) == len(whole)
        for trial in found:
            problem.space.encode(trial.recipe)

    def test_it_keeps_to_the_constraints(self) -> None:
        """No recipe breaks a constraint, of one or of two."""
        low, high = self.problem().costs.extent("avg_bits")
        least, most = self.problem().costs.extent("bops")
        texts = [f"avg_bits <= {low + 0.6 * (high - low)}", f"bops <= {least + 0.9 * (most - least)}"]
        for constraints in (texts[:1], texts):
            problem = self.problem(constraints=constraints)
            for trial in _flat(self.history(problem, most=8)):
                indices = problem.space.encode(trial.recipe)
                assert all(bound.holds(problem.costs, indices) for bound in problem.constraints)

    def test_it_ends_on_a_tiny_space(self) -> None:
        """Where there are fewer recipes than trials it ends, by asking for none or for old ones."""
        problem = self.tiny()
        trials = _flat(self.history(problem))
        assert len(trials) <= problem.trials
        for trial in trials:
            problem.space.encode(trial.recipe)

    def _run(self, problem: Problem, path: Path, stop_after: int | None = None) -> SearchRun:
        store = TrialStore.open(path, Fingerprint("tiny", "0", "0.1"))
        needed = dict.fromkeys((problem.fidelity, *self.strategy.fidelities()), ("quality", "avg_bits"))
        with _Planted(problem, stop_after) as engine:
            return run(problem, self.strategy.searcher(problem), engine, store, name="suite", needed=needed)


class _Planted(Engine):
    """Measures in this process, what is planted; Ctrl-C comes after some trials."""

    name = "planted"

    def __init__(self, problem: Problem, stop_after: int | None) -> None:
        super().__init__(EngineSettings(), lambda: lambda places: self._measure, {})
        self.problem, self.stop_after, self.count = problem, stop_after, 0

    @property
    def workers(self) -> int:
        """One at a time."""
        return 1

    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        """Yield every job's trial."""
        yield from map(self._measure, jobs)

    def _measure(self, job: Job) -> Evaluated:
        if self.count == self.stop_after:
            raise KeyboardInterrupt
        self.count += 1
        return Evaluated(replace(job.trial(), metrics=_planted(self.problem, job.recipe).metrics))


def _trial(problem: Problem, proposal: Proposal, number: int, fails: Callable[[int], bool], seconds: float) -> Trial:
    fidelity = proposal.fidelity or problem.fidelity
    failed = fails(number) and fidelity == problem.fidelity
    return replace(_planted(problem, proposal.recipe, number, fails=failed), fidelity=fidelity, seconds=seconds)


def _planted(problem: Problem, recipe: Mapping[str, str], number: int = 0, *, fails: bool = False) -> Trial:
    """Return a trial with the signal of cheaper fidelities, dB, beside what is planted."""
    trial = trial_of(problem, recipe, number, fails=fails)
    if fails:
        return trial
    db = -10 * math.log10(max(-trial.metrics["quality"], 1e-10))
    return replace(trial, metrics={**trial.metrics, "SQNR": db, "latent-SQNR": db})


def _flat(history: Sequence[Sequence[Trial]]) -> list[Trial]:
    return [trial for told in history for trial in told]


def _recipes(history: Sequence[Sequence[Trial]]) -> list[list[dict[str, str]]]:
    return [[dict(trial.recipe) for trial in told] for told in history]
