"""What a search stands on: denoiser, space, bank, reference, target, from a run file; the same in every worker."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from q2.config import RunFile, Table
from q2.denoisers import Denoiser
from q2.errors import ConfigError, Q2Error
from q2.graph import Graph, trace
from q2.passes import QUANTIZE, Pass, PassContext, PassManager, Step, TransformPass
from q2.passes.requires import all_required
from q2.passes.transform.quantize import Quantize
from q2.passes.transform.switch import Switch, WeightsBefore
from q2.plugins import Catalogue
from q2.progress import Progress, silent
from q2.quant.bank import Bank, options_in
from q2.quant.options import NONE, Option
from q2.search.engines.base import Make, Places, Worker
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.evaluator import LADDER, Evaluator, metrics_at
from q2.search.evaluation.reference import Reference
from q2.search.metrics.base import Metric
from q2.search.metrics.contract import check_class, named_metric
from q2.search.objective.constraints import Constraint, check
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.strategies.base import Objective, Problem, Strategy
from q2.search.trials.store import Fingerprint, TrialStore
from q2.session.bank import bank_folder
from q2.session.transform import Plan, load_denoiser, make_bank, named, open_bank, prepare
from q2.settings import Fidelity
from q2.version import version

__all__ = [
    "Loaded",
    "Loader",
    "Ready",
    "bank_needs",
    "bank_of",
    "fingerprint_of",
    "load",
    "make_problem",
    "make_ready",
    "make_reference",
    "metrics_of",
    "places_of",
    "space_of",
    "strategy_of",
]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A run's denoiser, traced, and what it is searched and measured for."""

    plan: Plan
    denoiser: Denoiser
    graph: Graph
    space: Space
    metrics: list[Metric]
    target: Target


@dataclass(frozen=True, eq=False)
class Ready(Loaded):
    """A search's denoiser with all that measuring a recipe takes; the same in the main process and in every worker."""

    ctx: PassContext
    costs: Costs

    @property
    def kinds(self) -> dict[str, type[Metric]]:
        """The metrics' classes by name."""
        return {metric.name: type(metric) for metric in self.metrics}

    def needed(self) -> dict[Fidelity, list[str]]:
        """Return the names of the metrics that a trial at every fidelity must have."""
        kinds = list(self.kinds.values())
        return {fidelity: [kind.name for kind in metrics_at(fidelity, kinds)] for fidelity in LADDER}


def load(plan: Plan, show: Callable[[Step], None] = lambda step: None) -> Loaded:
    """Load and trace the denoiser, work out the space, and check that the run's transforms can do what they are to."""
    settings = plan.settings
    kinds, target = metrics_of(plan)
    start = time.perf_counter()
    denoiser = load_denoiser(plan, pipeline=settings.search.evaluation.fidelity != "weights")
    _ = denoiser.fingerprint
    graph = trace(denoiser.model, denoiser.example_inputs())
    space = space_of(plan, graph)
    metrics = [named(plan.run, partial(_metric, plan, kind, denoiser), "search") for kind in kinds.values()]
    ctx = PassContext(plan.plugins, denoiser, settings.seed, prec=settings.prec)
    named(plan.run, lambda: _transforms(plan, ctx, _is_searched).check(graph))
    show(Step("load", time.perf_counter() - start, f"{denoiser.source} ({denoiser.fingerprint})"))
    return Loaded(plan, denoiser, graph, space, metrics, target)


def make_ready(
    loaded: Loaded, bank: Bank, progress: Progress = silent, show: Callable[[Step], None] = lambda step: None
) -> Ready:
    """Run the transforms that run once, and work out what options cost; after `make_reference`.

    What the others require of full precision is measured here too. Raises `ConfigError` for a transform that changes
    weights that the bank was fitted to.
    """
    plan, graph = loaded.plan, loaded.graph
    ctx = PassContext(plan.plugins, loaded.denoiser, plan.settings.seed, progress, plan.settings.prec, bank)
    if not graph.facts.transforms:  # a worker in this process has the same graph
        weights = WeightsBefore(graph)
        results = _transforms(plan, ctx, _is_searched).measure(graph), _transforms(plan, ctx, _runs_once).each(graph)
        for result in (*results[0], *results[1]):
            show(Step(result.title, result.seconds, result.report.summary))
        layer = weights.changed()
        if layer:
            raise ConfigError(
                f"{plan.run.name}: a transform changed the weight of {layer!r}, which the bank was fitted to"
            )
    return Ready(**vars(loaded), ctx=ctx, costs=Costs.of_graph(graph, loaded.space, ctx, bank))


def _transforms(plan: Plan, ctx: PassContext, only: Callable[[Pass], bool]) -> PassManager:
    """Return the run's passes, of which a search runs those that `only` picks; `quantize` always has its place."""
    applied = any(step.name == QUANTIZE for _, step in plan.passes)
    return PassManager(plan.passes if applied else [(QUANTIZE, Quantize()), *plan.passes], ctx, only=only)


def _is_searched(step: Pass) -> bool:
    return isinstance(step, TransformPass) and step.name != QUANTIZE


def _runs_once(step: Pass) -> bool:
    return _is_searched(step) and not _runs_for_every_recipe(step)


def _runs_for_every_recipe(step: Pass) -> bool:
    return isinstance(step, TransformPass) and step.per_recipe


def places_of(plan: Plan, folder: Path) -> Places:
    """Return where the workers of the run in `folder` find what `search` makes for them: the bank, the reference."""
    return {"bank": _bank_place(plan, folder).absolute(), "reference": (folder / "reference").absolute()}


@dataclass(eq=False)
class Loader:
    """Loads a run's denoiser where it is to work, once; what is called makes an evaluator of it.

    It does so from the folders of `places_of`, or copies of them. In another process it prepares and loads for itself.
    """

    run: RunFile
    plan: Plan | None = None
    show: Callable[[Step], None] = lambda step: None
    _loaded: Loaded | None = None

    def __reduce__(self) -> tuple[type["Loader"], tuple[RunFile]]:
        return Loader, (self.run,)

    def __call__(self) -> Make:
        """Load, unless that is done."""
        return partial(_evaluator, self.loaded)

    @property
    def loaded(self) -> Loaded:
        """What `load` gave."""
        if self._loaded is None:
            self._loaded = load(self.plan or prepare(self.run), self.show)
        return self._loaded


def _evaluator(loaded: Loaded, places: Places) -> Worker:
    plan = loaded.plan
    ready = make_ready(loaded, _opened(plan, loaded.graph, loaded.denoiser, places["bank"]))
    settings = plan.settings.search.evaluation
    reference = Reference(places["reference"], settings)
    switch = Switch(ready.graph, ready.ctx, _transforms(plan, ready.ctx, _runs_for_every_recipe))
    return Evaluator(ready.denoiser, ready.graph, ready.ctx, ready.costs, ready.metrics, settings, reference, switch)


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
    kinds = {name: named(plan.run, partial(_kind, catalogue, name), "search") for name in names}
    at = metrics_at(wanted.evaluation.fidelity, list(kinds.values()))
    needs = dict.fromkeys(wanted.metrics, "objectives") | dict.fromkeys(target.metrics, "target")
    for name, what in needs.items():
        if kinds[name] not in at:
            where = plan.run.where(("search", "evaluation", "fidelity"))
            raise ConfigError(f"{where}: {wanted.evaluation.fidelity!r} does not measure {name!r} of the {what}")
    return kinds, target


def _kind(catalogue: Catalogue[Metric], name: str) -> type[Metric]:
    """Return a metric's class. Raises `PluginError` for one that does not exist, or is no metric."""
    kind = catalogue.load(name)
    check_class(name, kind, catalogue[name].owner)
    return kind


def _metric(plan: Plan, kind: type[Metric], denoiser: Denoiser) -> Metric:
    """Make a metric. Raises `Q2Error`, for whatever a plugin's may raise."""
    owner = plan.plugins.metrics[kind.name].owner
    with nullcontext() if owner == "q2" else named_metric(kind.name, owner):
        metric = kind(denoiser, plan.settings.search.evaluation)
    metric.owner = owner
    return metric


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


def bank_needs(plan: Plan, space: Space, place: Path) -> tuple[tuple[str, ...], bool]:
    """Return the options to be fitted into the bank at `place` for a search in `space`, and whether there is a bank.

    Raises `ConfigError` if what is there is no bank.
    """
    there = named(plan.run, lambda: options_in(place), "bank", "path")
    texts = space.options if there else (*plan.settings.bank.options, *space.options)
    wanted = dict.fromkeys(str(Option.parse(text)) for text in texts)
    return tuple(text for text in wanted if text not in (NONE, *there)), bool(there)


def _bank_place(plan: Plan, folder: Path) -> Path:
    """Return where the run's bank is, or is to be built: in the run's folder, unless there is another."""
    named_or_shared = bank_folder(plan.settings.bank.path, plan.title)
    return named_or_shared if plan.settings.bank.path or named_or_shared.exists() else folder / "bank"


def bank_of(  # noqa: PLR0917 (the denoiser's first, then as everywhere)
    plan: Plan,
    graph: Graph,
    denoiser: Denoiser,
    folder: Path,
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Bank:
    """Open the run's bank. Options of the search that it lacks are fitted into it; where there is none it is built.

    A bank that is built gets the options of ``[bank]`` as well.
    """
    start = time.perf_counter()
    place = _bank_place(plan, folder)
    lacking, there = bank_needs(plan, space_of(plan, graph), place)
    if lacking:
        show(Step("bank", 0, f"{place}: {'fits also' if there else 'fits'} {', '.join(lacking)}"))
        make_bank(plan, place, progress, lacking)
    bank = _opened(plan, graph, denoiser, place)
    show(Step("bank", time.perf_counter() - start, f"{bank.folder}: {len(bank.plan.options)} options"))
    return bank


def _opened(plan: Plan, graph: Graph, denoiser: Denoiser, place: Path) -> Bank:
    bank = plan.settings.bank.model_copy(update={"path": str(place)})
    plan = replace(plan, settings=plan.settings.model_copy(update={"bank": bank}))
    found = open_bank(plan, graph, denoiser)
    if found is None:
        raise Q2Error("a search needs a bank, and weights on meta have none")
    return found


def fingerprint_of(plan: Plan, denoiser: Denoiser) -> Fingerprint:
    """Return what trials must share: they may be of several fidelities, and have any metrics."""
    settings = plan.settings
    measured = settings.search.evaluation.model_dump(mode="json")
    for key in ("metrics", "fidelity", "batch", "inception", "clip"):
        measured.pop(key)
    passes = _decisive(plan)
    measured |= {"dtype": str(denoiser.dtype), "prec": settings.prec} | ({"passes": passes} if passes else {})
    measured |= {"order": list(passes)} if len(passes) > 1 else {}
    measured |= {"refiner": settings.denoiser.refiner} if settings.denoiser.refiner else {}
    return Fingerprint(denoiser.label, denoiser.fingerprint, version(), measured)


def _decisive(plan: Plan) -> dict[str, Table]:
    """Return the tables of the passes that a search runs: its transforms, and what these require."""
    kinds = {step.name: type(step) for _, step in plan.passes}
    names = {
        name
        for _, step in plan.passes
        if _is_searched(step)
        for name in (step.name, *all_required(type(step), kinds, plan.plugins))
        if name != QUANTIZE
    }
    tables = plan.effective["passes"]
    return {title: tables[title] for title, step in plan.passes if step.name in names}


def make_reference(
    loaded: Loaded,
    folder: Path,
    fidelities: Sequence[Fidelity],
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> float:
    """Make full precision's side of every comparison, unless the folder is another run's; return the seconds."""
    plan, metrics = loaded.plan, loaded.metrics
    TrialStore.open(folder / "trials", fingerprint_of(plan, loaded.denoiser))
    reference = Reference(folder / "reference", plan.settings.search.evaluation)
    took = reference.make(loaded.denoiser, loaded.graph, fidelities, metrics, progress)
    show(Step("reference", took, f"{' '.join(fidelities)}: what full precision gives"))
    return took
