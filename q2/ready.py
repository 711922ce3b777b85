"""What a search stands on: denoiser, space, bank, reference, target, from a run file; the same in every worker."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from q2.banks import bank_folder
from q2.config import RunFile
from q2.denoisers import Denoiser
from q2.errors import ConfigError, Q2Error
from q2.graph import Graph, trace
from q2.passes import PassContext, PassManager, Step
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.progress import Progress, silent
from q2.quant.bank import Bank, options_in
from q2.quant.options import NONE, Option
from q2.runs import Plan, load_denoiser, make_bank, named, open_bank, prepare
from q2.search.constraints import Constraint, check
from q2.search.costs import Costs
from q2.search.engines.base import Make, Places, Worker
from q2.search.evaluate import LADDER, Evaluator, metrics_at
from q2.search.metrics.base import ForwardMetric, ImageMetric, Metric
from q2.search.reference import Reference
from q2.search.space import Space
from q2.search.store import Fingerprint, TrialStore
from q2.search.strategies.base import Objective, Problem, Strategy
from q2.search.target import Target
from q2.settings import Fidelity

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
    """Load and trace the denoiser, work out the space, and check that activations can be quantized as the run says."""
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
    ctx = PassContext(plan.plugins, denoiser, settings.seed, prec=settings.prec)
    named(plan.run, lambda: _activations(plan, ctx).check(graph))
    show(Step("load", time.perf_counter() - start, f"{denoiser.source} ({denoiser.fingerprint})"))
    return Loaded(plan, denoiser, graph, space, metrics, target)


def make_ready(loaded: Loaded, bank: Bank, progress: Progress = silent) -> Ready:
    """Quantize activations as the run file says, and work out what options cost; after `make_reference`."""
    plan, graph = loaded.plan, loaded.graph
    ctx = PassContext(plan.plugins, loaded.denoiser, plan.settings.seed, progress, plan.settings.prec, bank)
    _activations(plan, ctx).run(graph)
    return Ready(**vars(loaded), ctx=ctx, costs=Costs.of_graph(graph, loaded.space, ctx, bank))


def _activations(plan: Plan, ctx: PassContext) -> PassManager:
    return PassManager([(title, step) for title, step in plan.passes if step.name == QuantizeActivations.name], ctx)


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
    passes = {title: step.to_table() for title, step in plan.passes if step.name == QuantizeActivations.name}
    measured |= {"dtype": str(denoiser.dtype), "prec": settings.prec} | ({"passes": passes} if passes else {})
    measured |= {"refiner": settings.denoiser.refiner} if settings.denoiser.refiner else {}
    return Fingerprint(denoiser.label, denoiser.fingerprint, version("q2"), measured)


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
    images = [metric for metric in metrics if isinstance(metric, ImageMetric)]
    outputs = any(isinstance(metric, ForwardMetric) for metric in metrics)
    reference = Reference(folder / "reference", plan.settings.search.evaluation)
    took = reference.make(loaded.denoiser, loaded.graph, fidelities, images, outputs=outputs, progress=progress)
    show(Step("reference", took, f"{' '.join(fidelities)}: what full precision gives"))
    return took
