"""What a search would take, before anything is loaded: the space, time, memory and disk, from shapes alone."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from q2.denoisers import Denoiser, device_of
from q2.errors import CalibrationError, ConfigError, did_you_mean
from q2.graph import Graph
from q2.passes import Step, TextTable
from q2.quant import Option, Quantizer
from q2.quant.calibration.collect import is_collected
from q2.quant.calibration.fit import fit_outputs
from q2.quant.calibration.gram import pieces
from q2.quant.calibration.problem import Problem
from q2.quant.calibration.rows import INDEX, read_index
from q2.quant.calibration.unfolding import Unfolding
from q2.quant.kinds import QUANTIZERS
from q2.search.engines.local import own_workers
from q2.search.evaluation.baselines import uniform
from q2.search.metrics.base import Metric, metrics_at
from q2.search.space import Space
from q2.session.bank import bank_folder, bank_needs, is_calibrated, planned_bytes
from q2.session.calibrate import rows_folder, rows_plan
from q2.session.checks import check_search
from q2.session.problem import metrics_of, strategy_of
from q2.session.session import Session

__all__ = ["Plan", "passes_of_image", "plan_search", "speed_here"]


@dataclass(frozen=True)
class Plan:
    """What a search would take, as steps with a line each; it shows itself as a table.

    >>> plan = Plan((Step("disk", 0, "reference ≈ 1 MiB"),))
    >>> plan
    step    what it takes
    ------  -----------------
    disk    reference ≈ 1 MiB
    >>> plan["disk"]
    'reference ≈ 1 MiB'
    """

    steps: tuple[Step, ...]

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @overload
    def __getitem__(self, title: int) -> Step: ...

    @overload
    def __getitem__(self, title: str) -> str: ...

    def __getitem__(self, title: int | str) -> Step | str:
        """Return a step by its place, or its line by its title. Raises `ConfigError` for a title that is not there."""
        if isinstance(title, int):
            return self.steps[title]
        lines = {step.title: step.summary for step in self.steps}
        if title not in lines:
            raise ConfigError(
                f"a plan has no step {title!r}{did_you_mean(title, lines)} (there are: {', '.join(lines)})"
            )
        return lines[title]

    @property
    def table(self) -> TextTable:
        """The steps and their lines."""
        return TextTable(("step", "what it takes"), tuple((step.title, step.summary) for step in self.steps))

    def __repr__(self) -> str:
        more = (table for step in self.steps for table in step.tables)
        return "\n\n".join(map(str, (self.table, *more)))

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


_PIXELS, _LATENT = 3, 8
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def plan_search(session: Session, folder: Path | None = None) -> Plan:
    """Return what a search in `folder` would take here, a line each; nothing is written, all is built on meta.

    Times are lower bounds: multiply-accumulates at the speed of a large product of matrices. Raises `Q2Error` for
    whatever a search would stop at without its weights.
    """
    wanted = session.settings.search
    check_search(session, {wanted.strategy: strategy_of(session, wanted.strategy)}, folder)
    kinds, target = metrics_of(session)
    denoiser, graph, space = session.shapes, session.outline, session.space
    units = len(graph.units())
    fixed = sum(len(choice.options) == 1 for choice in space.choices)
    line = f"{len(graph.weight_layers)} weight layers in {units} units · {len(space)} choices, {fixed} of them fixed"
    rows = [
        (choice.name, " ".join(choice.options))
        for choice in space.choices
        if set(choice.options) != set(wanted.options or session.settings.bank.options)
    ]
    limited = TextTable(("layers with options of their own", "options"), tuple(rows))
    speed = speed_here(session)
    workers = _workers(session)
    seconds = _trial(session, denoiser, graph, kinds) / speed_here(session, workers)
    beside = len(uniform(space)) if wanted.baselines != "off" else 0
    counted = wanted.baselines == "counted"
    total = -(-(wanted.trials + (0 if counted else beside)) // workers) * seconds
    text = f"{_images(session, denoiser)} ≥ {_shown(seconds)} on a worker of this machine; "
    text += f"{wanted.trials} trials ≥ {_shown(total)} with {workers} of them"
    held = sum(tensor.numel() for tensor in denoiser.model.state_dict().values()) * denoiser.dtype.itemsize
    memory = f"weights {held / 2**30:.2f} GiB a worker, beside what the pipeline's other parts and activations take"
    steps = [
        Step("space", 0, f"{denoiser.label} · {line}", (limited,) if rows else ()),
        Step("target", 0, f"{target} · {space}"),
        Step("bank", 0, _bank(session, graph, space, folder)),
        Step("calibration", 0, _rows(session, denoiser, graph, speed)),
        Step("baselines", 0, _baselines(beside, counted=counted)),
        Step("trial", 0, text),
        Step("memory", 0, memory),
        Step("disk", 0, f"reference ≈ {_disk(session, denoiser, kinds) / 2**20:.0f} MiB"),
    ]
    return Plan(tuple(steps))


def _baselines(count: int, *, counted: bool) -> str:
    """Return how many baselines a search evaluates first."""
    if not count:
        return "none"
    return f"{count}: each option everywhere, {'counted among the' if counted else 'beside the'} trials"


def _trial(session: Session, denoiser: Denoiser, graph: Graph, kinds: dict[str, type[Metric]]) -> float:
    """Return the multiply-accumulates of one trial at the least: forward passes alone."""
    settings = session.settings.search.evaluation
    measured = metrics_at(settings.fidelity, list(kinds.values()))
    passes = 0
    if any(kind.cost == "forward" for kind in measured):
        passes += settings.inputs
    if any(kind.cost == "images" for kind in measured):
        few = settings.fidelity == "few-step"
        steps = settings.few_steps if few else settings.steps or denoiser.protocol.steps
        passes += steps * (settings.few_images if few else settings.images)
    return float(passes * passes_of_image(denoiser) * graph.macs)


def passes_of_image(denoiser: Denoiser) -> int:
    """Return how often the denoiser runs for a step of an image."""
    return 2 if denoiser.protocol.guidance > 1 else 1


def _workers(session: Session) -> int:
    """Return how many workers there will be: as the run file says, or as many as this machine has of its own."""
    return session.settings.search.engine.workers or own_workers(session.settings.denoiser.device)


def speed_here(session: Session, workers: int = 1) -> float:
    """Return multiply-accumulates a second of a large product of matrices here, in the run's dtype.

    On a CPU `workers` share the cores: what one of them does is returned.
    """
    device, threads = device_of(session.settings.denoiser.device), torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        return _product(session, device)
    finally:
        torch.set_num_threads(threads)


def _product(session: Session, device: torch.device) -> float:
    dtype = getattr(torch, session.settings.denoiser.dtype)
    side = 8192 if device.type == "cuda" else 1024
    matrix = torch.ones(side, side, dtype=dtype, device=device)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])
        times.append(time.perf_counter() - start)
    return float(side**3 / min(times))


def _bank(session: Session, graph: Graph, space: Space, run: Path | None) -> str:
    """Return where the bank is, or how long it takes to fit what it lacks, from one layer that is fitted here."""
    folder = bank_folder(session, run)
    lacking, there = bank_needs(session, space, folder)
    if not lacking:
        return f"{folder}: there"
    options = [Option.parse(text) for text in lacking]
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32))
    weight = weight.to(getattr(torch, session.settings.denoiser.dtype))
    fits: list[tuple[Quantizer, int]] = [
        (session.plugins.of(QUANTIZERS).load(option.quantizer)(), option.bits) for option in options
    ]
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(1024, 512)).astype(np.float32))
    calibrated, took = is_calibrated(session, folder), 0.0
    for _ in range(2):  # the first compiles
        start = time.perf_counter()
        problem = Problem(weight.float(), pieces(rows, weight.shape, 1.0)) if calibrated else None
        for quantizer, bits in fits:
            if problem:
                fit_outputs(weight, quantizer, [bits], problem, session.settings.prec)
            else:
                quantizer.fit(weight, bits, session.settings.prec)
        took = time.perf_counter() - start
    layers = graph.weight_layers.values()
    work = sum(layer.weights * (layer.weights // layer.shape[0] if calibrated else 512) for layer in layers)
    times = work / (weight.numel() * 512)
    state = f"{folder}: lacks {', '.join(lacking)}" if there else "not built"
    held = planned_bytes(session, lacking, calibrated)
    return f"{state}: {held / 1e6:.1f} MB, ≈ {_shown(took * times)} on {os.cpu_count()} cores"


def _rows(session: Session, denoiser: Denoiser, graph: Graph, speed: float) -> str:
    """Return where the rows of layers' inputs are, or how long they take to collect, and their size."""
    folder = rows_folder(session)
    plan = rows_plan(session, graph, denoiser, "")
    try:
        if (folder / INDEX).exists():
            there, _ = read_index(folder)
            if is_collected(folder, replace(plan, weights=there.weights)):
                return f"{folder}: there"
    except CalibrationError as error:
        return str(error)
    passes = plan.images * plan.steps * passes_of_image(denoiser)
    size = 0
    for group in plan.groups:
        layer = graph.weight_layers[group]
        size += min(plan.rows, passes * layer.macs // max(layer.weights, 1)) * Unfolding.of(layer.module).length
    took = _shown(passes * graph.macs / speed)
    return f"not collected: {plan.images} images x {plan.steps} steps ≥ {took}, {2 * size / 1e6:.1f} MB at most"


def _disk(session: Session, denoiser: Denoiser, kinds: dict[str, type[Metric]]) -> float:
    """Return the bytes of full precision's images and latents."""
    settings = session.settings.search.evaluation
    if settings.fidelity not in ("few-step", "full") or all(kind.cost != "images" for kind in kinds.values()):
        return 0.0
    images = settings.few_images if settings.fidelity == "few-step" else settings.images
    given = denoiser.example_inputs().values()
    latent = next(value for value in given if isinstance(value, Tensor) and value.ndim == 4)
    return images * (4.0 * latent[0].numel() + _PIXELS * _LATENT**2 * latent[0, 0].numel())


def _images(session: Session, denoiser: Denoiser) -> str:
    settings = session.settings.search.evaluation
    if settings.fidelity == "few-step":
        return f"{settings.few_images} images x {settings.few_steps} steps"
    if settings.fidelity == "full":
        return f"{settings.images} images x {settings.steps or denoiser.protocol.steps} steps"
    return settings.fidelity


def _shown(seconds: float) -> str:
    """Return a duration for people.

    >>> [_shown(value) for value in (0.2, 90, 7200, 250000)]
    ['0.2 s', '1.5 min', '2.0 h', '2.9 days']
    """
    for unit, size in (("days", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
