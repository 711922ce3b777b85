"""The search loop: ask, evaluate, tell, until all trials are done. Trials in the store are not evaluated again."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from q2.errors import Q2Error, TargetError
from q2.progress import Progress, silent
from q2.search.engines.base import Engine
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.strategies.base import Problem, Proposal, Searcher
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

__all__ = ["BASELINE", "SearchRun", "judged", "known", "measure", "run"]

BASELINE = "baseline"
"""The strategy named in trials of baselines."""

_FIRST, _ROW = 3, 10


@dataclass
class SearchRun:
    """The result of a search: its trials, in the order of their numbers, and its times.

    `spent` are the workers' seconds by part, `wall` is the elapsed seconds while the engine had jobs, and `measured`
    the number of trials that were not in the store before.
    """

    trials: list[Trial] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    measured: int = 0


@dataclass
class _Failures:
    """Decides when failed trials end a search of `trials`.

    Values that are not finite come from the recipe, since full precision's are finite: a strategy may try options that
    overflow. They end a search only if no trial is complete and more than half of the trials, and at least ten, have
    failed. Other errors may come from the machine: they end a search if its first three trials have them, or later ten
    in a row, or as many in a row as there are complete trials if that is more.
    """

    trials: int
    good: int = 0
    row: int = 0
    errors: int = 0

    def count(self, trial: Trial, *, not_finite: bool = False) -> None:
        """Count a trial. Raises `Q2Error` if it ends the search."""
        if trial.state == "complete":
            self.good, self.row, self.errors = self.good + 1, 0, 0
            return
        self.row += 1
        self.errors = 0 if not_finite else self.errors + 1
        started = self.good or self.row > self.errors
        broken = self.errors >= (max(_ROW, self.good) if started else _FIRST)
        if broken or (not self.good and self.row > max(_ROW, self.trials / 2)):
            raise Q2Error(f"{self.row} trials in a row failed, the last: {trial.error}")


def run(
    problem: Problem,
    searcher: Searcher,
    engine: Engine,
    store: TrialStore,
    *,
    name: str,
    needed: Mapping[Fidelity, Collection[str]],
    seed: int = 0,
    progress: Progress = silent,
    after: Callable[[Trial], None] = lambda trial: None,
    tell: Callable[[Trial, bool], str] = lambda trial, new: "",
) -> SearchRun:
    """Search with `searcher`, named `name` in its trials, until all trials are done or it proposes no more.

    Only trials at the search's own fidelity count; trials at other fidelities help to choose them. Trials in `store`
    with all metrics `needed` at their fidelity are told to the searcher and not evaluated again; others are evaluated
    and added to the store. Every trial is passed to `after`, and to `tell` together with whether it is new; `tell`
    returns the text of the progress bar. `seed` is the evaluation's. A trial whose target is not finite counts as
    failed for the searcher, though the store keeps its metrics. A trial's number is its place in the search, or the
    next free number if a trial of another search has this one. Raises `Q2Error` if too many trials fail.
    """
    done, own, failures = SearchRun(), 0, _Failures(problem.trials)
    said: dict[str, str] = {}

    def each() -> Iterator[Trial]:
        nonlocal own
        while own < problem.trials:
            asked = searcher.ask(problem.trials - own)
            if not asked:
                return
            jobs = [_job(problem, proposal, seed, name, len(done.trials) + i) for i, proposal in enumerate(asked)]
            jobs = _numbered(jobs, store)
            found: dict[str, Trial] = {}
            for result, new in _results(done, jobs, engine, store, needed):
                trial = judged(problem, result.trial)
                found[trial.id] = trial
                after(trial)
                said[trial.id] = tell(trial, new)
                failures.count(trial, not_finite=result.not_finite or trial is not result.trial)
                if trial.fidelity == problem.fidelity:
                    yield trial
            told = [found[job.trial().id] for job in jobs]
            searcher.tell(told)
            done.trials += told
            own += sum(trial.fidelity == problem.fidelity for trial in told)

    try:
        for _ in progress(each(), name, problem.trials, lambda trial: said[trial.id]):
            pass
    finally:
        searcher.close()
    return done


def measure(
    problem: Problem,
    recipes: Mapping[str, Mapping[str, str]],
    engine: Engine,
    store: TrialStore,
    *,
    needed: Mapping[Fidelity, Collection[str]],
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Trial]:
    """Return the trial of every recipe, by name, at the search's fidelity; trials not in the store are added to it.

    These trials belong to no strategy and have no number. A recipe that fails is a failed trial.
    """
    jobs = {name: Job(dict(recipe), problem.fidelity, seed, None, BASELINE) for name, recipe in recipes.items()}
    results = _results(SearchRun(), list(jobs.values()), engine, store, needed)
    found = {result.trial.id: judged(problem, result.trial) for result, _ in progress(results, "baselines", len(jobs))}
    return {name: found[job.trial().id] for name, job in jobs.items()}


def known(
    problem: Problem, store: TrialStore, needed: Mapping[Fidelity, Collection[str]], seed: int, proposal: Proposal
) -> bool:
    """Return whether the store has the trial of a proposal, so that `run` would not evaluate it."""
    return _stored(_job(problem, proposal, seed, "", 0), store, needed) is not None


def _job(problem: Problem, proposal: Proposal, seed: int, strategy: str, number: int) -> Job:
    return Job(dict(proposal.recipe), proposal.fidelity or problem.fidelity, seed, number, strategy)


def _numbered(jobs: Sequence[Job], store: TrialStore) -> list[Job]:
    """Return the jobs; jobs whose number belongs to another trial in the store get the next free numbers."""
    taken = {trial.number: trial.id for trial in store if trial.number is not None}
    free = max(taken, default=-1) + 1
    free = max([free, *(job.number + 1 for job in jobs if job.number is not None)])
    numbered = []
    for job in jobs:
        key = job.trial().id
        if job.number is not None and key not in store and taken.get(job.number, key) != key:
            job, free = replace(job, number=free), free + 1  # noqa: PLW2901
        numbered.append(job)
    return numbered


def judged(problem: Problem, trial: Trial) -> Trial:
    """Return a trial as failed if the target has no finite value for it; only the search's own fidelity counts."""
    if trial.state == "complete" and trial.fidelity == problem.fidelity:
        try:
            problem.target.value(trial.metrics, trial.label)
        except TargetError as error:
            return replace(trial, state="failed", error=str(error))
    return trial


def _results(
    done: SearchRun, jobs: Sequence[Job], engine: Engine, store: TrialStore, needed: Mapping[Fidelity, Collection[str]]
) -> Iterator[tuple[Evaluated, bool]]:
    """Yield the trial of every distinct job, and whether it is new: evaluated now and added to the store."""
    store.refresh()
    open_: dict[str, Job] = {}
    for job in jobs:
        trial = _stored(job, store, needed)
        if trial is None:
            open_.setdefault(job.trial().id, job)
        else:
            yield Evaluated(trial), False
    start = time.perf_counter()
    for result in engine.run(list(open_.values())) if open_ else ():
        store.add(result.trial)
        done.measured += 1
        done.wall += time.perf_counter() - start
        start = time.perf_counter()
        _count(done, result)
        yield (result if result.trial.state == "failed" else replace(result, trial=store[result.trial.id])), True


def _stored(job: Job, store: TrialStore, needed: Mapping[Fidelity, Collection[str]]) -> Trial | None:
    key = job.trial().id
    trial = store[key] if key in store else None  # noqa: SIM401 (a store is no mapping)
    if trial is None or trial.state != "complete" or not trial.metrics.keys() >= set(needed[job.fidelity]):
        return None
    return trial


def _count(done: SearchRun, result: Evaluated) -> None:
    for part, seconds in result.spent.items():
        done.spent[part] = done.spent.get(part, 0.0) + seconds
