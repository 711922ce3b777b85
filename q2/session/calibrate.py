"""Calibration rows, the layers' inputs of a session's denoiser: collected during sampling, resumed, and found again."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from q2.denoisers import Ask, Denoiser
from q2.errors import CalibrationError, ConfigError
from q2.graph import Graph
from q2.graph.sharing import readers
from q2.passes import Step
from q2.quant.calibration.collect import collect, groups_of, is_collected
from q2.quant.calibration.rows import INDEX, RowPlan, RowStore, read_index
from q2.session.session import Session

__all__ = ["RowsReport", "calibrate", "check_rows", "find_rows", "rows_folder", "rows_plan", "rows_there"]


@dataclass(frozen=True)
class RowsReport:
    """What a calibration did: `drawn` images were not there yet."""

    store: RowStore
    drawn: int

    @property
    def summary(self) -> str:
        """The rows in a line."""
        plan = self.store.plan
        return (
            f"{len(plan.layers)} layers, {len(plan.groups)} different inputs; {plan.images} images x {plan.steps} "
            f"steps, {self.drawn} drawn now; {self.store.bytes / 1e6:.2f} MB"
        )


def rows_folder(session: Session, folder: Path | None = None) -> Path:
    """Return where a session's rows are: ``calibration.path``, else a folder named after the denoiser.

    A run in `folder` has them there where neither is given nor found.
    """
    path = session.settings.calibration.path
    shared = Path(path) if path else Path("calibration") / session.weights_title
    return shared if folder is None or path or shared.exists() else folder / "calibration"


def calibrate(session: Session, folder: Path | None = None) -> RowsReport:
    """Collect the rows that the run file says into `folder`, which may hold a part of them. Raises `ConfigError`."""
    place = folder or rows_folder(session)
    check_rows(session, place)
    return _collect(session, place)


def find_rows(session: Session, place: Path) -> RowStore:
    """Return the rows at `place`; batches that are lacking are drawn with the session's denoiser.

    No pass may have changed that yet. Raises `ConfigError`.
    """
    check_rows(session, place)
    with session.at("calibration", "path"):
        plan = rows_plan(session, session.graph, session.denoiser, session.denoiser.fingerprint)
        there = is_collected(place, plan)
    if there:
        return RowStore.open(place)
    session.show(Step("calibrate", 0, f"{place}: draws {plan.images} images x {plan.steps} steps"))
    return _collect(session, place).store


def rows_there(session: Session, place: Path, weights: str) -> RowStore | None:
    """Return the rows at `place` if all that the run file says are there, of weights with this fingerprint.

    None where some are missing, or they are others, or a layer never ran; nothing is drawn.
    """
    if not (place / INDEX).exists():
        return None
    try:
        plan = rows_plan(session, session.outline, session.create_denoiser(), weights)
        if not is_collected(place, plan):
            return None
        _, seen = read_index(place)
    except CalibrationError:
        return None
    return RowStore.open(place) if all(sum(counts) for counts in seen.values()) else None


def check_rows(session: Session, place: Path) -> None:
    """Raise `ConfigError` for settings that cannot be, and for rows at `place` of another denoiser or other settings.

    Nothing is loaded: whether they are of the same weights shows only when these are.
    """
    wanted, denoiser = session.settings.calibration, session.create_denoiser()
    with session.at(*(("calibration", "prompts") if wanted.prompts else ())):
        denoiser.check_classes(Ask(prompts=wanted.prompts))
    if denoiser.weights == "meta":
        with session.at("denoiser", "weights"):
            raise ConfigError("'meta' has no values to calibrate with; expected 'pretrained' or 'random'")
    others = {"search.evaluation.seed": session.settings.search.evaluation.seed, "seed": session.settings.seed}
    for key, seed in others.items():
        if wanted.seed == seed:
            with session.at("calibration", "seed"):
                raise ConfigError(f"{seed} is {key} too: recipes would be measured with the images they were fitted to")
    if (place / INDEX).exists():
        with session.at("calibration", "path"):
            there, _ = read_index(place)
            _check(there, rows_plan(session, session.outline, denoiser, there.weights), place)


def rows_plan(session: Session, graph: Graph, denoiser: Denoiser, weights: str) -> RowPlan:
    """Return what rows the run file says of a denoiser, whose weights have this fingerprint; `graph` may be on meta."""
    wanted = session.settings.calibration
    modules = {name: layer.module for name, layer in graph.weight_layers.items()}
    prompts: list[object] = list(wanted.prompts or denoiser.prompts)
    if denoiser.pipeline_arguments:
        prompts.append(dict(denoiser.pipeline_arguments))
    return RowPlan(
        denoiser=denoiser.label,
        weights=weights,
        dtype=str(denoiser.dtype).removeprefix("torch."),
        images=wanted.images,
        steps=wanted.steps or denoiser.protocol.steps,
        rows=wanted.rows,
        seed=wanted.seed,
        batch=wanted.batch,
        prompts=sha256(json.dumps(prompts).encode()).hexdigest()[:16],
        refiner=denoiser.refiner.where if denoiser.refiner else "",
        layers=groups_of(modules, readers(graph)),
    )


def _check(there: RowPlan, wanted: RowPlan, place: Path) -> None:
    if difference := there.differs(wanted):
        raise CalibrationError(
            f"{place}: the rows do not fit ({difference}); remove them, or name another folder: calibration.path"
        )


def _collect(session: Session, place: Path) -> RowsReport:
    session.load_pipeline()
    denoiser, graph, wanted = session.denoiser, session.graph, session.settings.calibration
    ask = Ask(prompts=wanted.prompts)
    with session.at("calibration", "prompts"):
        denoiser.check(ask)
    plan = rows_plan(session, graph, denoiser, denoiser.fingerprint)

    def draw(images: range) -> None:
        with graph.installed():
            denoiser.generate(
                len(images), first=images.start, seed=plan.seed, steps=plan.steps, batch=len(images), ask=ask
            )

    with session.at():
        drawn = collect(place, plan, denoiser.model, draw, session.progress)
        return RowsReport(RowStore.open(place), drawn)
