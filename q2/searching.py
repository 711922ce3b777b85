"""A search run: TOML to space, bank, reference, strategy and engine; then trials, and a report of what they say."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from q2.banks import bank_folder
from q2.config import RunFile, to_toml
from q2.denoisers import Denoiser
from q2.errors import ConfigError, Q2Error
from q2.files import write_json, write_text
from q2.graph import Graph, trace
from q2.passes import PassContext, PassManager, Step
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.progress import Progress, silent
from q2.quant import Recipe
from q2.quant.bank import Bank
from q2.runs import Plan, load_denoiser, make_bank, manifest, named, open_bank, prepare
from q2.search.constraints import Constraint, check
from q2.search.costs import Costs
from q2.search.engines.base import Engine, Places, Worker
from q2.search.evaluate import LADDER, Evaluator, metrics_at
from q2.search.loop import Run, known, run
from q2.search.metrics.base import ForwardMetric, ImageMetric, Metric
from q2.search.reference import Reference
from q2.search.report import Found, found, front_picture
from q2.search.space import Space
from q2.search.store import Fingerprint, TrialStore
from q2.search.strategies.base import Objective, Problem, Strategy
from q2.search.target import Target
from q2.search.trials import Trial
from q2.settings import Fidelity

__all__ = [
    "Outcome",
    "Ready",
    "Session",
    "bank_of",
    "fingerprint_of",
    "make_problem",
    "make_ready",
    "metrics_of",
    "opened",
    "places_of",
    "search",
    "space_of",
    "strategy_of",
    "worker_of",
]


@dataclass(frozen=True, eq=False)
class Ready:
    """A search's denoiser with all that measuring a recipe takes; the same in the main process and in every worker."""

    denoiser: Denoiser
    graph: Graph
    ctx: PassContext
    space: Space
    costs: Costs
    metrics: list[Metric]
    target: Target

    @property
    def kinds(self) -> dict[str, type[Metric]]:
        """The metrics' classes by name."""
        return {metric.name: type(metric) for metric in self.metrics}

    def needed(self) -> dict[Fidelity, list[str]]:
        """Return the names of the metrics that a trial at every fidelity must have."""
        kinds = list(self.kinds.values())
        return {fidelity: [kind.name for kind in metrics_at(fidelity, kinds)] for fidelity in LADDER}


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
            worth = target.value(trial.metrics) if _comparable(trial, target) else None
            plan.plugins.after_trial(trial, worth, folder)

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
    make, places = partial(worker_of, plan.run), places_of(plan, folder)
    engine: Engine = named(plan.run, lambda: kind(wanted.engine, make, places), "search", "engine")
    with engine:
        engine.warm()
        took: list[float] = []
        reference = partial(_make_reference, plan, folder, fidelities, progress, show, took)
        ready = make_ready(plan, folder, reference, progress, show)
        fingerprint = fingerprint_of(plan, ready.denoiser)
        store = TrialStore.open(folder / "trials", fingerprint)
        problem = replace(
            make_problem(plan, ready, folder, progress, show),
            known=lambda proposal: known(problem, store, ready.needed(), wanted.evaluation.seed, proposal),
            identity=fingerprint.digest,
        )
        show(Step("space", 0, f"{ready.space} · target {ready.target}"))
        yield Session(plan, ready, problem, store, engine, sum(took))


def make_ready(
    plan: Plan,
    folder: Path,
    at_full_precision: Callable[[Denoiser, Graph, list[Metric]], None] = lambda denoiser, graph, metrics: None,
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Ready:
    """Load the denoiser, its bank (built into the run's folder where there is none), and work out the space.

    `at_full_precision` is called with what has been loaded before activations are quantized as the run file says.
    """
    settings = plan.settings
    kinds, target = metrics_of(plan)
    start = time.perf_counter()
    denoiser = load_denoiser(plan, pipeline=settings.search.evaluation.fidelity != "weights")
    _ = denoiser.fingerprint
    graph = trace(denoiser.model, denoiser.example_inputs())
    space = space_of(plan, graph)
    metrics = [
        named(plan.run, partial(kind, denoiser, settings.search.evaluation), "search") for kind in kinds.values()
    ]
    show(Step("load", time.perf_counter() - start, f"{denoiser.source} ({denoiser.fingerprint})"))
    start = time.perf_counter()
    bank = bank_of(plan, graph, denoiser, folder, progress)
    show(Step("bank", time.perf_counter() - start, f"{bank.folder}: {len(bank.plan.options)} options"))
    ctx = PassContext(plan.plugins, denoiser, settings.seed, progress, settings.prec, bank)
    manager = PassManager([(title, step) for title, step in plan.passes if step.name == QuantizeActivations.name], ctx)
    named(plan.run, lambda: manager.check(graph))
    at_full_precision(denoiser, graph, metrics)
    manager.run(graph)
    return Ready(denoiser, graph, ctx, space, Costs.of_graph(graph, space, ctx, bank), metrics, target)


def places_of(plan: Plan, folder: Path) -> Places:
    """Return where the workers of the run in `folder` find what `search` makes for them: the bank, the reference."""
    return {"bank": _bank_place(plan, folder).absolute(), "reference": (folder / "reference").absolute()}


def worker_of(run_file: RunFile, places: Places) -> Worker:
    """Make the evaluator of a run in the process that is to work, from the folders of `places_of` or copies of them."""
    plan = prepare(run_file)
    ready = make_ready(_with_bank(plan, places["bank"]), places["bank"].parent)
    settings = plan.settings.search.evaluation
    reference = Reference(places["reference"], settings)
    return Evaluator(ready.denoiser, ready.graph, ready.ctx, ready.costs, ready.metrics, settings, reference)


def strategy_of(plan: Plan, title: str) -> Strategy:
    """Return the strategy of a name, with its options. Raises `ConfigError`."""
    table = dict(plan.settings.search.strategies.get(title, {}))
    name = str(table.pop("strategy", title))
    kind = named(plan.run, lambda: plan.plugins.strategies.load(name), "search", "strategy")
    return kind.from_table(table, lambda key: plan.run.where(("search", "strategies", title, *key)))


def space_of(plan: Plan, graph: Graph) -> Space:
    """Return the search space that the run file says. Raises `ConfigError`."""
    wanted, options = plan.settings.search, plan.settings.search.options or plan.settings.bank.options
    return named(plan.run, lambda: Space.of_graph(graph, options, ties=wanted.ties).limited(wanted.layers), "search")


def metrics_of(plan: Plan) -> tuple[dict[str, type[Metric]], Target]:
    """Return the metrics that the run names, and the target. Raises `ConfigError` for one that does not exist."""
    wanted, catalogue = plan.settings.search, plan.plugins.metrics
    target = named(plan.run, lambda: Target.parse(wanted.target, list(catalogue)), "search", "target")
    names = dict.fromkeys((*target.metrics, *wanted.metrics))
    for name in wanted.evaluation.metrics:
        named(plan.run, partial(catalogue.load, name), "search", "evaluation", "metrics")
        names[name] = None
    for name in wanted.metrics:
        named(plan.run, partial(catalogue.load, name), "search", "metrics", name)
    for key, text in strategy_of(plan, wanted.strategy).expressions().items():
        place = ("search", "strategies", wanted.strategy, key)
        names |= dict.fromkeys(named(plan.run, partial(Target.parse, text, list(catalogue)), *place).metrics)
    kinds = {name: catalogue.load(name) for name in names}
    at = metrics_at(wanted.evaluation.fidelity, list(kinds.values()))
    needs = dict.fromkeys(wanted.metrics, "objectives") | dict.fromkeys(target.metrics, "target")
    for name, what in needs.items():
        if kinds[name] not in at:
            where = plan.run.where(("search", "evaluation", "fidelity"))
            raise ConfigError(f"{where}: {wanted.evaluation.fidelity!r} does not measure {name!r} of the {what}")
    return kinds, target


def make_problem(
    plan: Plan,
    ready: Ready,
    folder: Path,
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Problem:
    """Return what is looked for. Raises `ConfigError` for constraints that no recipe keeps to."""
    wanted = plan.settings.search
    texts = (*wanted.constraints, *([f"avg_bits <= {wanted.build.avg_bits}"] if wanted.build.avg_bits else []))
    names = list(ready.costs.tables)
    bounds = named(
        plan.run, lambda: tuple(Constraint.parse(text, names) for text in dict.fromkeys(texts)), "search", "constraints"
    )
    named(plan.run, lambda: check(bounds, ready.costs), "search", "constraints")
    return Problem(
        ready.space,
        ready.costs,
        ready.target,
        ready.graph,
        wanted.trials,
        plan.settings.seed,
        wanted.evaluation.fidelity,
        bounds,
        tuple(Objective(name, each.direction, each.scale) for name, each in wanted.metrics.items()),
        wanted.build,
        folder,
        progress,
        show,
        {fidelity: [*ready.costs.tables, *measured] for fidelity, measured in ready.needed().items()},
    )


def _bank_place(plan: Plan, folder: Path) -> Path:
    """Return where the run's bank is, or is to be built: in the run's folder, unless there is another."""
    named_or_shared = bank_folder(plan.settings.bank.path, plan.title)
    return named_or_shared if plan.settings.bank.path or named_or_shared.exists() else folder / "bank"


def _with_bank(plan: Plan, place: Path) -> Plan:
    bank = plan.settings.bank.model_copy(update={"path": str(place)})
    return replace(plan, settings=plan.settings.model_copy(update={"bank": bank}))


def bank_of(plan: Plan, graph: Graph, denoiser: Denoiser, folder: Path, progress: Progress) -> Bank:
    """Open the run's bank; where there is none it is built in the run's folder."""
    place = _bank_place(plan, folder)
    if place == folder / "bank" and not plan.settings.bank.path and not (place / "index.json").exists():
        make_bank(plan, place, progress)
    found = open_bank(_with_bank(plan, place), graph, denoiser)
    if found is None:
        raise Q2Error("a search needs a bank, and weights on meta have none")
    return found


def fingerprint_of(plan: Plan, denoiser: Denoiser) -> Fingerprint:
    """Return what trials must share: they may be of several fidelities, and have any metrics."""
    settings = plan.settings
    measured = settings.search.evaluation.model_dump(mode="json")
    for key in ("metrics", "fidelity", "batch", "inception", "clip"):
        measured.pop(key)
    passes = {title: step.to_table() for title, step in plan.passes if step.name == QuantizeActivations.name}
    measured |= {"dtype": str(denoiser.dtype), "prec": settings.prec} | ({"passes": passes} if passes else {})
    measured |= {"refiner": settings.denoiser.refiner} if settings.denoiser.refiner else {}
    return Fingerprint(denoiser.label, denoiser.fingerprint, version("q2"), measured)


def _make_reference(  # noqa: PLR0917 (a callback)
    plan: Plan,
    folder: Path,
    fidelities: list[Fidelity],
    progress: Progress,
    show: Callable[[Step], None],
    seconds: list[float],
    denoiser: Denoiser,
    graph: Graph,
    metrics: list[Metric],
) -> None:
    """Make full precision's side of every comparison, unless the folder is another run's; add the `seconds`."""
    settings = plan.settings.search.evaluation
    TrialStore.open(folder / "trials", fingerprint_of(plan, denoiser))
    images = [metric for metric in metrics if isinstance(metric, ImageMetric)]
    outputs = any(isinstance(metric, ForwardMetric) for metric in metrics)
    reference = Reference(folder / "reference", settings)
    took = reference.make(denoiser, graph, fidelities, images, outputs=outputs, progress=progress)
    seconds.append(took)
    show(Step("reference", took, f"{' '.join(fidelities)}: what full precision gives"))


def _comparable(trial: Trial, target: Target) -> bool:
    return trial.state == "complete" and all(name in trial.metrics for name in target.metrics)


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
        "q2": version("q2"),
        "denoiser": {"name": outcome.ready.denoiser.label, "fingerprint": outcome.ready.denoiser.fingerprint},
        "space": str(outcome.ready.space),
        "target": str(outcome.ready.target),
        "constraints": [str(bound) for bound in outcome.problem.constraints],
        "trials": {"complete": len(result.trials), "failed": len(result.failed)},
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
