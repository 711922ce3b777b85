"""A search run: a strategy asks, an engine measures, the store keeps; then a report of what the trials say."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from q2.files import write_json
from q2.passes import Step
from q2.quant import Option, Recipe
from q2.search.engines.base import Engine
from q2.search.evaluation.baselines import full_precision, uncompressed, uniform
from q2.search.evaluation.reference import Reference
from q2.search.loop import BASELINE, SearchRun, judged, known, measure, run
from q2.search.objective.constraints import check
from q2.search.pictures import front_picture
from q2.search.report import Found, found, quality_of
from q2.search.strategies.base import GradientErrors, Problem, Strategy
from q2.search.subject import Subject
from q2.search.tally import Tally
from q2.search.trials.store import TrialStore
from q2.search.trials.table import TrialTable
from q2.search.trials.trial import Trial
from q2.session.bank import find_bank, shared_bank
from q2.session.checks import check_search
from q2.session.evaluation import Loader, Ready, fingerprint_of, make_ready, make_reference, places_of
from q2.session.folder import MANIFEST, RunOf, check_free
from q2.session.log import Log
from q2.session.problem import engine_of, measured_at, problem_of, strategy_of
from q2.session.report import manifest, writing
from q2.session.session import Session
from q2.version import version

__all__ = ["OpenSearch", "SearchResult", "opened", "search"]

PICTURES = ("front.png", "front.svg")


@dataclass(frozen=True, eq=False)
class OpenSearch:
    """A run's folder with all that strategies need to search in it: made ready once, for one after the other.

    `reference`: seconds spent generating the full-precision reference.
    """

    session: Session
    ready: Ready
    problem: Problem
    store: TrialStore
    engine: Engine
    reference: float

    def run(self, strategy: Strategy, title: str, problem: Problem) -> SearchRun:
        """Search with a strategy, called `title`, for what `problem` says; see `q2.search.loop`."""
        session, target, folder = self.session, self.ready.target, self.problem.folder
        with session.at("search", "strategies", title):
            searcher = strategy.searcher(problem)

        def after(trial: Trial) -> None:
            value = target.finite(trial.metrics) if trial.state == "complete" else None
            for line in session.plugins.after_trial(trial, value, folder):
                problem.show(Step("plugin", 0, line))

        log = Log(self.problem.folder)
        tally = Tally(problem, quality_of(problem, self.ready.kinds))

        def told(trial: Trial, new: bool) -> str:
            line = tally.add(trial, new=new)
            if new:
                log(line)
                session.tell(line)
            return tally.note()

        log(f"{title}: {problem.trials} trials, target {target}, {len(self.store)} trials in the store")
        return run(
            problem,
            searcher,
            self.engine,
            self.store,
            name=title,
            needed=measured_at(self.ready.kinds),
            seed=session.settings.search.evaluation.seed,
            progress=problem.progress,
            after=after,
            tell=told,
        )

    def baselines(self) -> dict[str, Trial]:
        """Evaluate each option everywhere, or find it in the store; by name. None where the run wants none."""
        if self.session.settings.search.baselines == "off":
            return {}
        found = measure(
            self.problem,
            uniform(self.problem.space),
            self.engine,
            self.store,
            needed=measured_at(self.ready.kinds),
            seed=self.session.settings.search.evaluation.seed,
            progress=self.problem.progress,
        )
        values = {
            name: self.ready.target.finite(trial.metrics) for name, trial in found.items() if trial.state == "complete"
        }
        for name, trial in found.items():
            said = f"failed: {trial.error}" if trial.state == "failed" else f"target {values[name]:.4g}"
            Log(self.problem.folder)(f"baseline {name}: {said}")
        return found

    def values(self, trials: Mapping[str, Trial]) -> dict[str, float]:
        """Return the targets of trials, by name, those alone that are complete and satisfy the constraints."""
        found = {}
        for name, trial in trials.items():
            value = self.ready.target.finite(trial.metrics) if trial.state == "complete" else None
            if value is not None and all(
                bound.admits(trial.metrics[bound.metric]) for bound in self.problem.constraints
            ):
                found[name] = value
        return found

    def full(self) -> Trial | None:
        """Return what the metrics say of full precision itself; None where the run wants no baselines."""
        if self.session.settings.search.baselines == "off":
            return None
        ready, problem = self.ready, self.problem
        sums = uncompressed(ready.graph, ready.space, ready.ctx, ready.ctx.bank)
        reference = Reference(problem.folder / "reference", self.session.settings.search.evaluation)
        return full_precision(reference, ready.metrics, ready.space, sums, problem.fidelity)

    def trials(self, done: SearchRun) -> list[Trial]:
        """Return the trials of a search with all others of its kind in the store, whichever strategy asked for them."""
        seed, own = self.session.settings.search.evaluation.seed, {trial.id for trial in done.trials}
        others = [
            judged(self.problem, trial)
            for trial in self.store
            if trial.id not in own
            and (trial.fidelity, trial.seed) == (self.problem.fidelity, seed)
            and trial.strategy != BASELINE
            and (trial.state == "failed" or set(self.problem.target.metrics) <= trial.metrics.keys())
        ]
        return [*done.trials, *others]


@dataclass(frozen=True, eq=False)
class SearchResult:
    """What a search gave: what was found, and the `files` in `folder`.

    `times` are the clock's and the workers' seconds, `report` is what ``report.json`` holds.
    """

    ready: Ready
    problem: Problem
    found: Found
    folder: Path
    times: Mapping[str, Any]
    files: list[Path] = field(default_factory=list)
    report: dict[str, object] = field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        """The chosen trial; None where none satisfies the constraints."""
        return self.found.best

    @property
    def front(self) -> TrialTable:
        """The trials on the front, from the smallest to the best."""
        return TrialTable(self.found.front)

    @property
    def trials(self) -> TrialTable:
        """All complete trials, with the target's values."""
        return TrialTable(self.found.trials, [self.found.values[trial.id] for trial in self.found.trials])

    def __repr__(self) -> str:
        failed = len(self.found.failed)
        count = f"{len(self.found.trials)} trials" + (f", {failed} failed" if failed else "")
        title = f"search of {self.ready.denoiser.label}: {count}, target {self.ready.target}, in {self.folder}/"
        return "\n".join([title, str(self.found.table()), self.found.why_none() or self.found.verdict()])

    def _repr_html_(self) -> str:
        return self.found.table()._repr_html_()

    def recipe(self, trial: Trial) -> Recipe:
        """Return a trial's recipe as people keep it."""
        denoiser = self.ready.denoiser
        bank = self.ready.ctx.bank
        calibration = bank.plan.calibration if bank else ""
        bits = trial.metrics["avg_bits"]
        fitted = {name: bank.fitted(name, Option.parse(text)) for name, text in trial.recipe.items()} if bank else {}
        ratios = {name: each.sqnr_db for name, each in fitted.items() if each is not None}
        return Recipe.of(trial.recipe, denoiser.label, denoiser.fingerprint, bits, calibration, ratios)

    @property
    def bank(self) -> Path | None:
        """The folder of the bank, where a recipe needs it and would not find it: it is calibrated, and elsewhere."""
        bank, session = self.ready.ctx.bank, self.ready.session
        usual = shared_bank(session, calibrated=True)
        return bank.folder if bank and bank.plan.calibration and bank.folder != usual.absolute() else None


def search(session: Session, folder: Path) -> SearchResult:
    """Search as the run file says, in `folder`, which may hold a part of the search already; write what was found.

    Raises `Q2Error`, one line; what has been measured until then is in the folder's store.
    """
    wanted = session.settings.search
    strategy = strategy_of(session, wanted.strategy)
    clock = time.perf_counter()
    with opened(session, folder, {wanted.strategy: strategy}, "search") as ready:
        start, workers = time.perf_counter(), ready.engine.workers
        beside, full = ready.baselines(), ready.full()
        if beside:
            step = Step("baselines", time.perf_counter() - start, _baselines_line(ready, beside))
            session.show(step)
            start = time.perf_counter()
        counted = len(beside) if wanted.baselines == "counted" else 0
        problem = replace(ready.problem, trials=max(1, wanted.trials - counted))
        done = ready.run(strategy, wanted.strategy, problem)
        trials = ready.trials(done)
    end = time.perf_counter()
    working = ready.reference + (done.spent.get("sample", 0) + done.spent.get("score", 0)) / workers
    share = min(working / (end - clock), 1.0)
    line = f"{_line(done, workers)} · {share:.0%} of the time sampling and scoring"
    session.show(Step(wanted.strategy, end - start, line))
    times: dict[str, Any] = {"wall": end - clock, "trials": end - start, "reference": ready.reference}
    times |= {"sampling": share, "workers": workers, "spent": done.spent}
    names = (*wanted.metrics, *wanted.evaluation.metrics)
    what = found(ready.problem, trials, ready.ready.kinds, baselines=beside, full=full, shown=names)
    result = SearchResult(ready.ready, ready.problem, what, folder, times)
    with writing(folder):
        _write(session, result)
    return result


@contextmanager
def opened(
    session: Session, folder: Path, strategies: Mapping[str, Strategy], kind: str = "search"
) -> Iterator[OpenSearch]:
    """Make everything ready for the strategies to search in `folder`, and stop the workers at the end.

    What can be known without weights is checked first; the folder must not be another run's, and is this run's, of a
    `kind`, from then on. Raises `ConfigError`.
    """
    check_free(folder, RunOf.of(session, kind))
    wanted = session.settings.search
    asked = (fidelity for strategy in strategies.values() for fidelity in strategy.fidelities())
    fidelities = list(dict.fromkeys((wanted.evaluation.fidelity, *asked)))
    loader, places = Loader(session.run, session), places_of(session, folder)
    with session.at("search", "engine"):
        engine: Engine = engine_of(session)(wanted.engine, loader, places)
    with engine:
        engine.prepare()
        check_search(session, strategies, folder)
        with session.at("search", "engine"):
            engine.warm()
        loaded = loader.loaded
        start = time.perf_counter()
        bank = find_bank(loaded.session, places["bank"])
        session.show(Step("bank", time.perf_counter() - start, f"{bank.folder}: {len(bank.plan.options)} options"))
        fingerprint = fingerprint_of(loaded.session)
        store = TrialStore.open(folder / "trials", fingerprint)
        with writing(folder):  # so that the folder says whose it is, and for what, while the search goes on
            session.write_settings(folder)
            write_json(folder / MANIFEST, manifest(session, loaded.denoiser, kind))
        took = make_reference(loaded, folder, fidelities)
        ready = make_ready(loaded, bank)
        needed, seed = measured_at(ready.kinds), wanted.evaluation.seed
        problem = problem_of(session, ready.graph, ready.space, ready.costs, folder)
        with session.at("search", "constraints"):
            check(problem.constraints, ready.costs)
        problem = replace(
            problem,
            known=lambda proposal: known(problem, store, needed, seed, proposal),
            identity=fingerprint.digest,
            subject=Subject(loaded.denoiser.label, loaded.denoiser.fingerprint, bank.plan.calibration),
            gradient_errors=_gradients(ready, folder),
        )
        session.show(Step("space", 0, f"{ready.space} · target {ready.target}"))
        yield OpenSearch(session, ready, problem, store, engine, took)


def _gradients(ready: Ready, folder: Path) -> GradientErrors:
    """Return what works out options' errors from gradients, by full precision's calls in the run's folder."""
    from q2.search.evaluation.gradients import OutputGradients

    settings = ready.session.settings
    reference = Reference(folder / "reference", settings.search.evaluation)
    return OutputGradients(ready.denoiser, ready.graph, ready.ctx, ready.space, reference.calls, settings.seed)


def _baselines_line(ready: OpenSearch, trials: Mapping[str, Trial]) -> str:
    """Return how many baselines there are, and the best that satisfies the constraints."""
    values = ready.values(trials)
    best = max(values, key=lambda name: values[name], default="")
    text = f"best {best}, target {values[best]:.4g}" if best else "none satisfies the constraints"
    return f"{len(trials)} of them · {text}"


def _line(done: SearchRun, workers: int) -> str:
    failed = sum(trial.state == "failed" for trial in done.trials)
    crew = "1 worker" if workers == 1 else f"{workers} workers"
    words = [f"{len(done.trials)} trials, {done.measured} measured now", crew]
    return " · ".join(words + ([f"{failed} failed"] if failed else []))


def _write(session: Session, outcome: SearchResult) -> None:
    """Write recipes, report, settings, manifest and picture into the run's folder."""
    folder, result = outcome.folder, outcome.found
    recipes = {f"front-{i}.toml": trial for i, trial in enumerate(result.front)}
    if result.best is not None:
        recipes = {"recipe.toml": result.best, **recipes}
    for old in (*folder.glob("front-*.toml"), folder / "recipe.toml"):
        if old.name not in recipes:
            old.unlink(missing_ok=True)
    for name, trial in recipes.items():
        outcome.recipe(trial).save(folder / name)
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
        "verdict": result.verdict() or result.why_none(),
        "beaten": result.beaten,
        "front": [{"file": name, **_entry(result, trial)} for name, trial in recipes.items()],
        "baselines": [{"name": name, **_entry(result, trial)} for name, trial in result.baselines.items()],
        "full precision": _entry(result, result.full) if result.full else None,
    }
    for name in PICTURES:
        front_picture(result, folder / name)
    session.write_settings(folder)
    write_json(folder / MANIFEST, manifest(session, outcome.ready.denoiser, "search"))
    write_json(folder / "report.json", report)
    outcome.report.update(report)
    outcome.files.extend(folder / name for name in (*recipes, *PICTURES, "report.json"))


def _entry(result: Found, trial: Trial) -> dict[str, object]:
    value = result.value(trial)
    entry: dict[str, object] = {"id": trial.id, "target": value}
    entry |= {"allowed": None if value is None else trial.id in result.feasible}
    entry |= {"metrics": trial.metrics, "intervals": trial.intervals}
    return entry | ({"error": trial.error} if trial.state == "failed" else {})
