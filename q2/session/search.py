"""A search run: a strategy asks, an engine measures, the store keeps; then a report of what the trials say."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from q2.config import to_toml
from q2.errors import Q2Error
from q2.files import write_json, write_text
from q2.passes import Step
from q2.progress import Progress, silent
from q2.quant import Recipe
from q2.search.engines.base import Engine
from q2.search.loop import Run, known, run
from q2.search.report import Found, found, front_picture
from q2.search.strategies.base import Problem, Strategy
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from q2.session.ready import (
    Loader,
    Ready,
    bank_of,
    fingerprint_of,
    make_problem,
    make_ready,
    make_reference,
    places_of,
    strategy_of,
)
from q2.session.transform import Plan, manifest, named
from q2.version import version

__all__ = ["Outcome", "Session", "opened", "search"]


@dataclass(frozen=True, eq=False)
class Session:
    """A run's folder with all that strategies need to search in it: made ready once, for one after the other.

    `reference` is the seconds that it took to draw full precision's side.
    """

    plan: Plan
    ready: Ready
    problem: Problem
    store: TrialStore
    engine: Engine
    reference: float

    def run(self, strategy: Strategy, title: str, problem: Problem) -> Run:
        """Search with a strategy, called `title`, for what `problem` says; see `q2.search.loop`."""
        plan, target, folder = self.plan, self.ready.target, self.problem.folder
        searcher = named(plan.run, lambda: strategy.searcher(problem), "search", "strategies", title)

        def after(trial: Trial) -> None:
            worth = target.finite(trial.metrics) if trial.state == "complete" else None
            for line in plan.plugins.after_trial(trial, worth, folder):
                problem.show(Step("plugin", 0, line))

        return run(
            problem,
            searcher,
            self.engine,
            self.store,
            name=title,
            needed=self.ready.needed(),
            seed=plan.settings.search.evaluation.seed,
            progress=problem.progress,
            after=after,
        )


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a search gave: what was found, and the `files` in `folder`.

    `times` are the clock's and the workers' seconds.
    """

    ready: Ready
    problem: Problem
    found: Found
    folder: Path
    times: Mapping[str, Any]
    files: list[Path] = field(default_factory=list)

    def recipe(self, trial: Trial) -> Recipe:
        """Return a trial's recipe as people keep it."""
        denoiser = self.ready.denoiser
        return Recipe.of(trial.recipe, denoiser.label, denoiser.fingerprint, trial.metrics["avg_bits"])


def search(
    plan: Plan,
    folder: Path,
    *,
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Outcome:
    """Search as the run file says, in `folder`, which may hold a part of the search already; write what was found.

    Raises `Q2Error`, one line; what has been measured until then is in the folder's store.
    """
    wanted = plan.settings.search
    strategy = strategy_of(plan, wanted.strategy)
    clock = time.perf_counter()
    with opened(plan, folder, [strategy], progress, show) as session:
        ready, problem, workers = session.ready, session.problem, session.engine.workers
        start = time.perf_counter()
        done = session.run(strategy, wanted.strategy, problem)
    end = time.perf_counter()
    working = session.reference + (done.spent.get("sample", 0) + done.spent.get("score", 0)) / workers
    share = min(working / (end - clock), 1.0)
    show(Step(wanted.strategy, end - start, f"{_line(done, workers)} · {share:.0%} of the time sampling and scoring"))
    result = found(problem, done.trials, ready.kinds)
    times: dict[str, Any] = {"wall": end - clock, "trials": end - start, "reference": session.reference}
    times |= {"sampling": share, "workers": workers, "spent": done.spent}
    outcome = Outcome(ready, problem, result, folder, times)
    try:
        _write(plan, outcome)
    except OSError as error:
        raise Q2Error(f"{folder}: cannot be written: {error.strerror or error}") from error
    return outcome


@contextmanager
def opened(
    plan: Plan,
    folder: Path,
    strategies: Collection[Strategy],
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Iterator[Session]:
    """Make everything ready for the strategies to search in `folder`, and stop the workers at the end."""
    wanted = plan.settings.search
    kind = named(plan.run, lambda: plan.plugins.engines.load(wanted.engine.name), "search", "engine", "name")
    fidelities = list(dict.fromkeys((wanted.evaluation.fidelity, *(f for s in strategies for f in s.fidelities()))))
    loader, places = Loader(plan.run, plan, show), places_of(plan, folder)
    engine: Engine = named(plan.run, lambda: kind(wanted.engine, loader, places), "search", "engine")
    with engine:
        engine.warm()
        loaded = loader.loaded
        bank = bank_of(plan, loaded.graph, loaded.denoiser, folder, progress, show)
        took = make_reference(loaded, folder, fidelities, progress, show)
        ready = make_ready(loaded, bank, progress, show)
        fingerprint = fingerprint_of(plan, ready.denoiser)
        store = TrialStore.open(folder / "trials", fingerprint)
        problem = replace(
            make_problem(plan, ready, folder, progress, show),
            known=lambda proposal: known(problem, store, ready.needed(), wanted.evaluation.seed, proposal),
            identity=fingerprint.digest,
        )
        show(Step("space", 0, f"{ready.space} · target {ready.target}"))
        yield Session(plan, ready, problem, store, engine, took)


def _line(done: Run, workers: int) -> str:
    failed = sum(trial.state == "failed" for trial in done.trials)
    words = [f"{len(done.trials)} trials, {done.measured} measured now", f"{workers} workers"]
    return " · ".join(words + ([f"{failed} failed"] if failed else []))


def _write(plan: Plan, outcome: Outcome) -> None:
    """Write recipes, report, settings, manifest and picture into the run's folder."""
    folder, result = outcome.folder, outcome.found
    recipes = {f"front-{i}.toml": trial for i, trial in enumerate(result.front)}
    if result.best is not None:
        recipes = {"recipe.toml": result.best, **recipes}
    for old in folder.glob("front-*.toml"):
        if old.name not in recipes:
            old.unlink()
    for name, trial in recipes.items():
        outcome.recipe(trial).save(folder / name)
    worth = dict(zip((trial.id for trial in result.trials), result.worth, strict=True))
    report: dict[str, object] = {
        "q2": version(),
        "denoiser": {"name": outcome.ready.denoiser.label, "fingerprint": outcome.ready.denoiser.fingerprint},
        "space": str(outcome.ready.space),
        "target": str(outcome.ready.target),
        "constraints": [str(bound) for bound in outcome.problem.constraints],
        "trials": {"complete": len(result.trials), "failed": len(result.failed)},
        "failed": [
            {"trials": count, "first": first, "reason": reason} for count, first, reason in result.failures().rows
        ],
        "seconds": outcome.times,
        "front": [
            {"file": name, "target": worth[trial.id], "metrics": trial.metrics, "intervals": trial.intervals}
            for name, trial in recipes.items()
        ],
    }
    front_picture(result, folder / "front.png")
    write_text(folder / "effective.toml", to_toml(plan.effective))
    write_json(folder / "manifest.json", manifest(plan, outcome.ready.denoiser))
    write_json(folder / "report.json", report)
    outcome.files.extend(folder / name for name in (*recipes, "front.png", "report.json"))
