"""The search: ask, run, tell, until the trials are spent. Everything that is known already is not measured again."""

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
"""What trials of baselines say in place of a strategy."""

_FIRST, _ROW = 3, 10


@dataclass
class SearchRun:
    """What a search did: its trials in the order of their numbers, and where the time went.

    `spent` are seconds of workers, `wall` seconds of the clock while the engine had jobs, `measured` how many trials
    were not in the store before.
    """

    trials: list[Trial] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    measured: int = 0


@dataclass
class _Failures:
    """Says when failed trials end a search of `trials`.

    What is not finite is the recipe's fault, since full precision's is: a strategy may try options that overflow. It
    ends a search only where no trial has gone well and more than half of them, and ten, have failed. Other errors may
    be the machine's: they end a search if its first three trials have them, or later ten in a row, or as many in a row
    as trials went well if that is more.
    """

    trials: int
    good: int = 0
    row: int = 0
    errors: int = 0

    def count(self, trial: Trial, *, not_finite: bool = False) -> None:
        """Take in a trial. Raises `Q2Error` where it ends the search."""
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
    """Search with `searcher`, called `name` in its trials, until it has had its trials or asks for no more.

    Trials at the search's own fidelity alone count: those at others help to choose them.
    Trials in `store` that have all metrics `needed` at their fidelity are told, not measured again; others are added
    to it as they come, each of them handed to `after`, and to `tell` with whether it was measured now, which returns
    what the progress bar is to say. `seed` is that of the evaluation. A trial whose target is not finite is a failed
    one to the searcher, though the store keeps its metrics. A trial's number is its place in the search, or the next
    that is free where trials of another search have that. Raises `Q2Error` where one trial after the other fails.
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
    """Return the trial of every recipe, by its name, at the search's fidelity: from the store, or added to it.

    They belong to no strategy and have no number. A recipe that fails is a failed trial.
    """
    jobs = {name: Job(dict(recipe), problem.fidelity, seed, None, BASELINE) for name, recipe in recipes.items()}
    results = _results(SearchRun(), list(jobs.values()), engine, store, needed)
    found = {result.trial.id: judged(problem, result.trial) for result, _ in progress(results, "baselines", len(jobs))}
    return {name: found[job.trial().id] for name, job in jobs.items()}


def known(
    problem: Problem, store: TrialStore, needed: Mapping[Fidelity, Collection[str]], seed: int, proposal: Proposal
) -> bool:
    """Say whether the store has what a proposal asks for, so that `run` would not measure it."""
    return _stored(_job(problem, proposal, seed, "", 0), store, needed) is not None


def _job(problem: Problem, proposal: Proposal, seed: int, strategy: str, number: int) -> Job:
    return Job(dict(proposal.recipe), proposal.fidelity or problem.fidelity, seed, number, strategy)


def _numbered(jobs: Sequence[Job], store: TrialStore) -> list[Job]:
    """Return the jobs, those whose number another trial in the store has with the next free ones."""
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
    """Yield the trial of every job, of equal ones once: from the store, or measured (True) and added to it."""
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
