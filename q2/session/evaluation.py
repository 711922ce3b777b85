"""What recipes are evaluated with: a denoiser, its metrics and the full-precision reference, in every worker alike."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from q2.config import RunFile, Table
from q2.denoisers import Ask, Denoiser
from q2.errors import ConfigError, Q2Error
from q2.graph import Graph
from q2.passes import QUANTIZE, Pass, PassContext, PassManager, Step, TransformPass
from q2.passes.requires import all_required
from q2.passes.transform.quantize import Quantize
from q2.passes.transform.switch import Switch, WeightsBefore
from q2.quant.bank import Bank
from q2.search.engines.base import Make, Places, Worker
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.evaluator import Evaluator
from q2.search.evaluation.reference import Reference
from q2.search.kinds import METRICS
from q2.search.metrics.base import Metric
from q2.search.metrics.contract import named_metric
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.trials.store import Fingerprint, TrialStore
from q2.session.bank import bank_folder, open_bank
from q2.session.problem import metrics_of
from q2.session.session import Session
from q2.settings import Fidelity
from q2.version import version

__all__ = [
    "Loaded",
    "Loader",
    "Ready",
    "evaluator_of",
    "fingerprint_of",
    "load",
    "make_ready",
    "make_reference",
    "places_of",
]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A session's denoiser, traced, and what it is searched and measured for."""

    session: Session
    space: Space
    metrics: list[Metric]
    target: Target

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser, loaded."""
        return self.session.denoiser

    @property
    def graph(self) -> Graph:
        """The denoiser's graph."""
        return self.session.graph


@dataclass(frozen=True, eq=False)
class Ready(Loaded):
    """The same with all that evaluating a recipe takes, in the main process and in every worker."""

    ctx: PassContext
    costs: Costs

    @property
    def kinds(self) -> dict[str, type[Metric]]:
        """The metrics' classes by name."""
        return {metric.name: type(metric) for metric in self.metrics}


def load(session: Session) -> Loaded:
    """Load and trace the denoiser, make the metrics, and check that the run's transforms can do what they are to."""
    kinds, target = metrics_of(session)
    start = time.perf_counter()
    session = session.fork()
    if session.settings.search.evaluation.fidelity != "weights":
        session.load_pipeline()
    denoiser, graph = session.denoiser, session.graph
    _ = denoiser.fingerprint
    space = session.space_of(graph)
    with session.at("search"):
        metrics = [_metric(session, kind) for kind in kinds.values()]
    with session.at():
        _transforms(session, session.context(), _is_searched).check(graph)
    session.show(Step("load", time.perf_counter() - start, f"{denoiser.source} ({denoiser.fingerprint})"))
    return Loaded(session, space, metrics, target)


def make_ready(loaded: Loaded, bank: Bank | None) -> Ready:
    """Run the transforms that run once, and work out what options cost; after `make_reference`.

    What the others require of full precision is measured here too. Raises `ConfigError` for a transform that changes
    weights that the bank was fitted to.
    """
    session, graph = loaded.session, loaded.graph
    ctx = session.with_rows(session.context(bank), _is_searched)
    if not graph.facts.transforms:  # a worker in this process has the same graph
        weights = WeightsBefore(graph)
        measured = _transforms(session, ctx, _is_searched).measure(graph)
        for result in (*measured, *_transforms(session, ctx, _runs_once).each(graph)):
            session.show(Step(result.title, result.seconds, result.report.summary))
        layer = weights.changed()
        if layer and bank:
            with session.at():
                raise ConfigError(f"a transform changed the weight of {layer!r}, which the bank was fitted to")
    return Ready(**vars(loaded), ctx=ctx, costs=Costs.of_graph(graph, loaded.space, ctx, bank))


def evaluator_of(ready: Ready, reference: Path) -> Evaluator:
    """Return what evaluates recipes against full precision's side in the folder `reference`."""
    settings = ready.session.settings.search.evaluation
    switch = Switch(ready.graph, ready.ctx, _transforms(ready.session, ready.ctx, _runs_for_every_recipe))
    return Evaluator(
        ready.denoiser,
        ready.graph,
        ready.ctx,
        ready.costs,
        ready.metrics,
        settings,
        Reference(reference, settings),
        switch,
    )


def make_reference(loaded: Loaded, folder: Path, fidelities: Sequence[Fidelity]) -> float:
    """Make full precision's side of every comparison in a run's folder, unless it is another run's; return seconds."""
    session = loaded.session
    TrialStore.open(folder / "trials", fingerprint_of(session))
    reference = Reference(folder / "reference", session.settings.search.evaluation)
    took = reference.make(loaded.denoiser, loaded.graph, fidelities, loaded.metrics, session.progress)
    session.show(Step("reference", took, f"{' '.join(fidelities)}: what full precision gives"))
    return took


def places_of(session: Session, folder: Path) -> Places:
    """Return where the workers of the run in `folder` find what `search` makes for them: the bank, the reference."""
    return {"bank": bank_folder(session, folder).absolute(), "reference": (folder / "reference").absolute()}


@dataclass(eq=False)
class Loader:
    """Loads a run's denoiser where it is to work, once; what is called makes an evaluator of it.

    It does so from the folders of `places_of`, or copies of them. In another process it makes a session for itself.
    """

    run: RunFile
    session: Session | None = None
    _loaded: Loaded | None = None

    def __reduce__(self) -> Any:
        return (_unpacked, self.session.packed()) if self.session else (Loader, (self.run,))

    @property
    def device(self) -> str:
        """The device that the run file names for the denoiser."""
        return self.run.settings.denoiser.device

    def prepare(self) -> None:
        """Import what `load` needs, by loading and tracing the denoiser on meta, which computes nothing."""
        session = self.session or Session(self.run)
        metrics_of(session)
        if session.settings.search.evaluation.fidelity != "weights":
            session.create_denoiser().check_classes(Ask())
        _ = session.outline

    def __call__(self) -> Make:
        """Load, unless that is done."""
        return partial(_evaluator, self.loaded)

    @property
    def loaded(self) -> Loaded:
        """What `load` gave."""
        if self._loaded is None:
            self._loaded = load(self.session or Session(self.run))
        return self._loaded


def _unpacked(*parts: Any) -> Loader:
    session = Session.unpacked(*parts)
    return Loader(session.run, session)


def _evaluator(loaded: Loaded, places: Places) -> Worker:
    bank = open_bank(loaded.session, places["bank"])
    if bank is None:
        raise Q2Error("a search needs a bank, and weights on meta have none")
    return evaluator_of(make_ready(loaded, bank), places["reference"])


def fingerprint_of(session: Session) -> Fingerprint:
    """Return what trials must share: they may be of several fidelities, and have any metrics."""
    settings, denoiser = session.settings, session.denoiser
    measured = settings.search.evaluation.model_dump(mode="json")
    for key in ("metrics", "fidelity", "batch", "inception", "clip"):
        measured.pop(key)
    passes = _decisive(session)
    measured |= {"dtype": str(denoiser.dtype), "prec": settings.prec} | ({"passes": passes} if passes else {})
    measured |= {"order": list(passes)} if len(passes) > 1 else {}
    measured |= {"arguments": settings.denoiser.arguments} if settings.denoiser.arguments else {}
    measured |= {"refiner": settings.denoiser.refiner} if settings.denoiser.refiner else {}
    return Fingerprint(denoiser.label, denoiser.fingerprint, version(), measured)


def _decisive(session: Session) -> dict[str, Table]:
    """Return the tables of the passes that a search runs: its transforms, and what these require."""
    kinds = {step.name: type(step) for _, step in session.passes}
    names = {
        name
        for _, step in session.passes
        if _is_searched(step)
        for name in (step.name, *all_required(type(step), kinds, session.plugins))
        if name != QUANTIZE
    }
    tables = session.effective["passes"]
    return {title: tables[title] for title, step in session.passes if step.name in names}


def _metric(session: Session, kind: type[Metric]) -> Metric:
    """Make a metric. Raises `Q2Error`, for whatever a plugin's may raise."""
    owner = session.plugins.of(METRICS)[kind.name].owner
    with nullcontext() if owner == "q2" else named_metric(kind.name, owner):
        metric = kind(session.denoiser, session.settings.search.evaluation)
    metric.owner = owner
    return metric


def _transforms(session: Session, ctx: PassContext, only: Callable[[Pass], bool]) -> PassManager:
    """Return the run's passes, of which a search runs those that `only` picks; `quantize` always has its place."""
    passes = session.passes if session.is_quantizing else [(QUANTIZE, Quantize()), *session.passes]
    return PassManager(passes, ctx, only=only)


def _is_searched(step: Pass) -> bool:
    return isinstance(step, TransformPass) and step.name != QUANTIZE


def _runs_once(step: Pass) -> bool:
    return _is_searched(step) and not _runs_for_every_recipe(step)


def _runs_for_every_recipe(step: Pass) -> bool:
    return isinstance(step, TransformPass) and step.per_recipe
