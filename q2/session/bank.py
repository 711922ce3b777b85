"""The bank of a session's denoiser: built, extended and found again; weights are streamed from the checkpoint."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from q2.denoisers import Denoiser, device_of
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.errors import BankError, ConfigError, Q2Error
from q2.graph import Graph
from q2.graph.fingerprint import fingerprint, fingerprint_of
from q2.passes import Step
from q2.passes.base import weight_of
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import Quantizer
from q2.quant.bank import Bank, BankPlan, LayerPlan, build, options_in
from q2.quant.calibration.moments import Problems
from q2.quant.calibration.rows import RowStore
from q2.quant.kinds import QUANTIZERS
from q2.quant.options import NONE, Option
from q2.quant.outputs import measure_outputs
from q2.quant.resolve import known_option
from q2.search.space import Space
from q2.session.calibrate import check_rows, find_rows, rows_folder, rows_there
from q2.session.problem import wants_outputs
from q2.session.session import Session

__all__ = [
    "BankReport",
    "bank_folder",
    "bank_in",
    "bank_needs",
    "build_bank",
    "check_bank",
    "find_bank",
    "fit_bank",
    "fitting_device",
    "is_calibrated",
    "layer_plans",
    "open_bank",
    "planned_bytes",
    "shared_bank",
]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class BankReport:
    """What a build did: `fitted` of the bank's layers were not there yet. `weights` is what the layers hold."""

    bank: Bank
    fitted: int
    weights: int

    def __repr__(self) -> str:
        return f"bank in {self.bank.folder}/: {self.summary}"

    @property
    def summary(self) -> str:
        """The bank in a line."""
        plan = self.bank.plan
        full = self.weights * plan.prec / 8
        outputs = f"; output errors by rows {self.bank.rows}" if self.bank.rows else ""
        return (
            f"{len(plan.layers)} layers x {len(plan.options)} options, {self.fitted} fitted now; "
            f"{self.bank.bytes / 1e6:.2f} MB, {self.bank.bytes / full:.1%} of the weights{outputs}"
        )


def bank_folder(session: Session, folder: Path | None = None) -> Path:
    """Return where a session's bank is: ``bank.path``, else a folder named after the denoiser.

    A run in `folder` has a plain one there where neither is given nor found; a calibrated one is for all runs.
    """
    path, wanted = session.settings.bank.path, session.settings.bank.calibrated
    wanted = wanted or any(step.wants_calibration for _, step in session.passes if isinstance(step, Quantize))
    shared = Path(path) if path else shared_bank(session, calibrated=wanted)
    return shared if folder is None or path or wanted or shared.exists() else folder / "bank"


def shared_bank(session: Session, *, calibrated: bool) -> Path:
    """Return where the bank of a session's denoiser is that all runs in this folder share."""
    return Path("bank") / (f"{session.weights_title}-calibrated" if calibrated else session.weights_title)


def build_bank(session: Session, folder: Path | None = None, options: Sequence[str] = ()) -> BankReport:
    """Fit `options`, or those that the run file says, of every layer into `folder`, which may hold some already.

    The shapes are traced on meta, and the weights are read layer by layer from the checkpoint: they are in memory as a
    whole only where no file has them. A plain bank also gets output errors where rows are there. Raises `ConfigError`.
    """
    place = folder or bank_folder(session)
    check_bank(session, place, grows=True)
    rows = None
    if is_calibrated(session, place):
        session = session.fork()
        rows = find_rows(session, rows_folder(session))
    denoiser = session.denoiser if rows else session.create_denoiser()
    wanted = options or session.settings.bank.options
    size = f"{planned_bytes(session, wanted, rows is not None) / 1e6:.2f} MB"
    session.show(Step("bank", 0, f"{place}: {len(wanted)} options of {len(session.outline.choices)} choices, {size}"))
    report = _fit(session, denoiser, place, wanted, rows)
    there = rows_there(session, rows_folder(session), report.bank.plan.weights)
    return replace(report, bank=_with_outputs(session, denoiser, report.bank, there))


def fit_bank(
    denoiser: Denoiser,
    outline: Graph,
    folder: Path,
    *,
    options: Sequence[str],
    prec: int = 16,
    plugins: Plugins,
    progress: Progress = silent,
    rows: RowStore | None = None,
    device: torch.device = _CPU,
) -> BankReport:
    """Fit every option of every layer of a denoiser, whose `outline` is the same on meta. Raises `Q2Error`.

    With `rows` they are fitted to the layers' outputs, on `device`; without, on the CPU.
    """
    if denoiser.weights == "meta":
        raise ConfigError("weights on meta have no values to fit; choose pretrained or random ones")
    wanted = [known_option(text, plugins.of(QUANTIZERS)) for text in options]
    if any(option.is_none for option in wanted):
        raise BankError("options: 'none' needs no bank")
    read = _reader(denoiser, outline.model, device if rows else _CPU)
    weights = _fingerprint(denoiser, outline.model)
    calibration = rows.plan.fingerprint if rows else ""
    plan = _plan(outline, denoiser, weights, tuple(dict.fromkeys(map(str, wanted))), prec, calibration)
    problems = Problems(rows) if rows else None
    fitted = build(folder, plan, read, _finder(plugins), progress, problems=problems)
    held = sum(layer.weights for layer in outline.weight_layers.values())
    return BankReport(Bank.open(folder, _finder(plugins)), fitted, held)


def open_bank(session: Session, place: Path | None = None) -> Bank | None:
    """Return the bank at `place`, or the session's own if there is one. Raises `ConfigError` if it does not fit.

    One that nobody named is left aside in a line instead.
    """
    if session.denoiser.weights == "meta":
        return None
    folder = place or bank_folder(session)
    unnamed = place is None and not session.settings.bank.path
    if unnamed and not folder.exists():
        return None
    with session.at("bank", "path"):
        settings = session.settings
        try:
            return bank_in(folder, session.graph, session.denoiser, prec=settings.prec, plugins=session.plugins)
        except BankError as error:
            if not unnamed or settings.bank.calibrated:
                raise
            session.show(Step("bank", 0, f"left aside: {error}"))
            return None


def bank_in(folder: Path, graph: Graph, denoiser: Denoiser, *, prec: int = 16, plugins: Plugins) -> Bank:
    """Return the bank in a folder. Raises `BankError` if it is none, not complete, or not of this denoiser."""
    bank = Bank.open(folder, _finder(plugins))
    _check(bank.plan, graph, denoiser, denoiser.fingerprint, prec, folder)
    return bank


def find_bank(session: Session, place: Path) -> Bank:
    """Return the bank at `place`; options of the search that it lacks are fitted into it, or it is built.

    A bank that is built gets the options of ``[bank]`` as well. A plain one gets output errors if the run asks for
    them, or if there are calibration rows. Raises `ConfigError`, and `Q2Error` for weights on meta.
    """
    lacking, there = bank_needs(session, session.space_of(session.graph), place)
    if lacking:
        calibrated = is_calibrated(session, place)
        rows = find_rows(session, rows_folder(session)) if calibrated else None
        session.show(Step("bank", 0, f"{place}: {'fits also' if there else 'fits'} {', '.join(lacking)}"))
        _fit(session, session.denoiser, place, lacking, rows)
    bank = open_bank(session, place)
    if bank is None:
        raise Q2Error("a search needs a bank, and weights on meta have none")
    if bank.rows:
        return bank
    asked, folder = wants_outputs(session), rows_folder(session)
    rows = find_rows(session, folder) if asked else rows_there(session, folder, session.denoiser.fingerprint)
    return _with_outputs(session, session.denoiser, bank, rows)


def bank_needs(session: Session, space: Space, place: Path) -> tuple[tuple[str, ...], bool]:
    """Return the options to be fitted into the bank at `place` for a search in `space`, and whether there is a bank.

    Raises `ConfigError` if what is there is no bank.
    """
    with session.at("bank", "path"):
        there = options_in(place)
    texts = space.options if there else (*session.settings.bank.options, *space.options)
    wanted = dict.fromkeys(str(Option.parse(text)) for text in texts)
    return tuple(text for text in wanted if text not in (NONE, *there)), bool(there)


def check_bank(session: Session, place: Path, *, grows: bool = False) -> BankPlan | None:
    """Return the plan of the bank at `place`, from its index; None if there is no bank.

    Raises `ConfigError`, from a `BankError`, if the folder holds no bank, or a bank of another denoiser, dtype, `prec`
    or other layers. Whether the weights are the same is known only when they are loaded. The bank of `bank.path` must
    exist and be complete unless it `grows`, when missing options will be fitted. A bank that the run does not name and
    that does not fit is ignored.
    """
    fitting_device(session)
    denoiser = session.create_denoiser()
    if denoiser.weights == "meta":
        return None
    if session.settings.bank.calibrated and not grows and not place.exists():
        with session.at("bank", "calibrated"):
            raise BankError(f"{place}: there is no bank; q2 bank makes it")
    with session.at("bank", "path"):
        plan = Bank.plan_of(place) if grows else _plan_there(session, place)
        if plan:
            _check(plan, session.outline, denoiser, plan.weights, session.settings.prec, place)
            if grows and session.settings.bank.calibrated and not plan.calibration:
                raise BankError(f"{place}: the bank is not calibrated; name another: bank.path")
    if grows and is_calibrated(session, place):
        check_rows(session, rows_folder(session))
    return plan


def _plan_there(session: Session, place: Path) -> BankPlan | None:
    """Return the plan of a complete bank; None where nobody named it and it is not there, or does not fit."""
    named = session.settings.bank.path or session.settings.bank.calibrated
    if not named and not place.exists():
        return None
    try:
        plan = Bank.open(place, _finder(session.plugins)).plan
        _check(plan, session.outline, session.create_denoiser(), plan.weights, session.settings.prec, place)
    except BankError:
        if named:
            raise
        return None
    return plan


def planned_bytes(session: Session, options: Sequence[str], calibrated: bool) -> int:
    """Return what options of all layers will take in a bank, in bytes, from shapes alone."""
    denoiser, settings = session.create_denoiser(), session.settings
    calibration = "rows" if calibrated else ""
    return _plan(session.outline, denoiser, "", tuple(options), settings.prec, calibration).bytes(
        _finder(session.plugins)
    )


def is_calibrated(session: Session, place: Path) -> bool:
    """Return whether what is fitted into the bank at `place` is fitted to outputs."""
    plan = Bank.plan_of(place)
    return session.settings.bank.calibrated or bool(plan and plan.calibration)


def _with_outputs(session: Session, denoiser: Denoiser, bank: Bank, rows: RowStore | None) -> Bank:
    """Return a bank with the output errors of its options by `rows`, measured unless they are there."""
    if rows is None or bank.plan.calibration:
        return bank
    read = _reader(denoiser, session.outline.model, fitting_device(session))
    with session.at():
        start = time.perf_counter()
        done = measure_outputs(bank, read, Problems(rows), rows.plan.fingerprint, session.progress)
        if done:
            line = f"{bank.folder}: output errors of {done} layers by the rows in {rows.folder}"
            session.show(Step("bank", time.perf_counter() - start, line))
        return Bank.open(bank.folder, _finder(session.plugins))


def _fit(
    session: Session, denoiser: Denoiser, place: Path, options: Sequence[str], rows: RowStore | None
) -> BankReport:
    with session.at():
        return fit_bank(
            denoiser,
            session.outline,
            place,
            options=options,
            prec=session.settings.prec,
            plugins=session.plugins,
            progress=session.progress,
            rows=rows,
            device=fitting_device(session),
        )


def fitting_device(session: Session) -> torch.device:
    """Return where options are fitted to outputs. Raises `ConfigError` for a device that is not here."""
    with session.at("bank", "device"):
        return device_of(session.settings.bank.device)


def _check(  # noqa: PLR0917 (one sentence about six things)
    found: BankPlan, graph: Graph, denoiser: Denoiser, weights: str, prec: int, folder: Path
) -> None:
    difference = found.differs(_plan(graph, denoiser, weights, found.options, prec, found.calibration))
    if difference:
        raise BankError(f"{folder}: the bank does not fit ({difference}); build it anew, or name another: bank.path")


def _plan(  # noqa: PLR0917 (what a plan is made of)
    graph: Graph, denoiser: Denoiser, weights: str, options: tuple[str, ...], prec: int, calibration: str
) -> BankPlan:
    dtype = str(denoiser.dtype).removeprefix("torch.")
    return BankPlan(denoiser.label, weights, dtype, prec, options, layer_plans(graph), calibration)


def layer_plans(graph: Graph) -> dict[str, LayerPlan]:
    """Return what a bank holds of each weight layer: both parts of one that reads a skip connection."""
    layers: dict[str, LayerPlan] = {}
    for choice in graph.choices.values():
        known = layers.get(choice.layer.name)
        choices = {**(known.choices if known else {}), choice.name: choice.channels}
        layers[choice.layer.name] = LayerPlan(choice.layer.shape, choices)
    return layers


def _reader(denoiser: Denoiser, shapes: nn.Module, device: torch.device) -> Callable[[str], Tensor]:
    """Return what reads a layer's weight to a device."""
    stored = _stored(denoiser, shapes)
    if stored is None:
        return lambda layer: weight_of(denoiser.model.get_submodule(layer)).to(device)
    return lambda layer: stored[f"{layer}.weight"].to(device, denoiser.dtype)


def _fingerprint(denoiser: Denoiser, shapes: nn.Module) -> str:
    """Return the fingerprint of all weights; the model is loaded only where no file has them."""
    stored = _stored(denoiser, shapes)
    if stored is None:
        return fingerprint(denoiser.model)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for name in shapes.state_dict():
            tensor = stored[name]
            yield name, tensor.to(denoiser.dtype) if tensor.is_floating_point() else tensor

    return fingerprint_of(tensors())


def _stored(denoiser: Denoiser, shapes: nn.Module) -> StoredWeights | None:
    """Return the checkpoint's files if they have every tensor of the model."""
    stored = denoiser.stored
    return None if stored is None or any(name not in stored for name in shapes.state_dict()) else stored


def _finder(plugins: Plugins) -> Callable[[str], Quantizer]:
    return lambda name: plugins.of(QUANTIZERS).load(name)()
