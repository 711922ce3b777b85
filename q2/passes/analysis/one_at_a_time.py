"""Measures a denoiser with one choice alone at another option, choice after choice, and keeps what was measured."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from q2.denoisers import Denoiser
from q2.denoisers.pairs import sqnr, sqnr_by_image
from q2.denoisers.recorded import outputs_of, record_calls
from q2.errors import SensitivityError, why
from q2.files import alone
from q2.graph import Graph
from q2.passes.base import PassContext, Step, at_layer, select
from q2.passes.transform.apply import apply_options
from q2.passes.transform.exact import at_full_precision
from q2.progress import silent
from q2.quant import Option
from q2.quant.options import NONE
from q2.quant.sensitivity import SensitivityTable, one_at_a_time

if TYPE_CHECKING:
    from q2.passes.analysis.sensitivity import LayerSensitivity

__all__ = ["measure"]

_SECONDS = 2.0  # between two writes of the file
Groups = Mapping[str, Sequence[str]]


def measure(graph: Graph, step: "LayerSensitivity", ctx: PassContext) -> SensitivityTable:
    """Return what was asked for; it is kept in the pass's file as it is measured, and what is there is not measured.

    Raises `SensitivityError` for a file of something else, or a full disk.
    """
    denoiser = ctx.need_denoiser("sensitivity")
    file = step.file or Path("sensitivity") / f"{denoiser.label}-{step.fidelity}.json"
    options = step.options_of(ctx)
    with at_full_precision(graph, ctx):
        groups = _groups(graph, step.layers)
        asked = _asked(denoiser, step, ctx, step.base_of(graph, ctx))
        try:
            with alone(file.parent):
                table = _there(file, asked)
                every = list(one_at_a_time(dict.fromkeys(groups, options), table.base))
                todo = [(choice, option) for choice, option in every if option not in table.sqnr_db.get(choice, {})]
                if todo:
                    base_db = _run(_Measured(graph, denoiser, asked, step.batch), groups, todo, table, file, ctx)
                    table = replace(table, base_db=base_db)
                    table.save(file)
        except OSError as error:
            raise SensitivityError(f"{file}: cannot be written: {why(error)}") from error
    rows: dict[str, dict[str, float]] = {}
    for choice, option in every:
        rows.setdefault(choice, {})[option] = table.sqnr_db[choice][option]
    return replace(table, sqnr_db=rows)


def _asked(denoiser: Denoiser, step: "LayerSensitivity", ctx: PassContext, base: Mapping[str, str]) -> SensitivityTable:
    """Return the table to be filled: what is measured, and how."""
    settings: dict[str, str | int] = {"images": step.images_made, "steps": step.steps, "seed": step.seed}
    settings |= {"dtype": str(denoiser.dtype).removeprefix("torch."), "prec": ctx.prec}
    settings |= {"calibration": ctx.bank.plan.calibration if ctx.bank else ""}
    return SensitivityTable(denoiser.label, denoiser.fingerprint, step.fidelity, settings, base)


def _there(file: Path, asked: SensitivityTable) -> SensitivityTable:
    """Return what the file has, or an empty table. Raises `SensitivityError` for what was measured otherwise."""
    for left in file.parent.glob(f".{file.stem}-*.json"):  # by a process that was killed
        left.unlink()
    if not file.exists():
        return asked
    found = SensitivityTable.load(file)
    if differs := found.differences(asked):
        raise SensitivityError(f"{file}: measured otherwise: {'; '.join(differs)}; name another file, or remove it")
    return found


def _groups(graph: Graph, pattern: str) -> Groups:
    """Return the choices to be measured, by the first of each, with those that hold the same weights."""
    wanted = {*select(graph.weight_layers, pattern)}
    first = {layer: group[0] for group in graph.ties() for layer in group}
    groups: dict[object, list[str]] = {}
    for name, choice in graph.choices.items():
        layer = choice.layer.name
        groups.setdefault((first.get(layer, layer), choice.channels), []).append(name)
    return {group[0]: group for group in groups.values() if any(graph.choices[n].layer.name in wanted for n in group)}


class _Measured:
    """Full precision's outputs or latents, and how far the graph as it is now is from them."""

    def __init__(self, graph: Graph, denoiser: Denoiser, asked: SensitivityTable, batch: int) -> None:
        self.graph, self.denoiser, self.forward = graph, denoiser, asked.fidelity == "forward"
        images, self.steps, self.seed = (int(asked.settings[key]) for key in ("images", "steps", "seed"))
        self.images, self.batch = images, batch
        if self.forward:
            self.calls, _ = record_calls(denoiser, graph, images, seed=self.seed, steps=self.steps, batch=batch)
            self.full = np.concatenate([np.asarray(call.output.double()) for call in self.calls])
            self.numbers = np.concatenate([call.images for call in self.calls])
        else:
            self.full = self._latents()

    def sqnr_db(self) -> float:
        """Return the mean SQNR over the images, dB; NaN where something is not finite."""
        if self.forward:
            made = [np.asarray(outputs_of(self.denoiser, self.graph, call).double()) for call in self.calls]
            return float(sqnr_by_image(np.concatenate(made), self.full, self.numbers).mean())
        return float(sqnr(self._latents(), self.full).mean())

    def _latents(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.floating]]":
        with self.graph.installed(), torch.no_grad():
            made = self.denoiser.generate(self.images, seed=self.seed, steps=self.steps, batch=self.batch)
        return np.asarray(made.latents.float())


def _run(  # noqa: PLR0917 (one caller, which has them all)
    measured: _Measured,
    groups: Groups,
    todo: Sequence[tuple[str, str]],
    table: SensitivityTable,
    file: Path,
    ctx: PassContext,
) -> float:
    """Measure the base, then every choice and option of `todo` into the table; return the base's SQNR."""
    quiet = replace(ctx, progress=silent)  # one bar, not one for each layer that is switched
    before = {name: Option.parse(table.base.get(name, NONE)) for group in groups.values() for name in group}
    graph, count = measured.graph, sum(map(len, table.sqnr_db.values()))
    apply_options(graph, {name: Option.parse(text) for name, text in table.base.items()}, quiet)
    start = time.perf_counter()
    base_db = measured.sqnr_db()
    each = time.perf_counter() - start
    there = f", {count} are there already" if count else ""
    fits = "" if ctx.bank else ", and the time to fit every option: q2 bank fits them once"
    line = f"{len(todo)} measurements of {each:.2g} s, about {_clock(each * len(todo))}{there}{fits}; kept in {file}"
    ctx.show(Step("sensitivity", each, line))
    written = time.monotonic()
    try:
        for choice, option in ctx.progress(todo, "sensitivity", len(todo)):
            with at_layer(choice):
                names = groups[choice]
                apply_options(graph, dict.fromkeys(names, Option.parse(option)), quiet)
                table.sqnr_db.setdefault(choice, {})[option] = measured.sqnr_db()
                apply_options(graph, {name: before[name] for name in names}, quiet)
            if time.monotonic() > written + _SECONDS:
                replace(table, base_db=base_db).save(file)
                written = time.monotonic()
    finally:
        replace(table, base_db=base_db).save(file)
    return base_db


def _clock(seconds: float) -> str:
    """Return a time as people say it.

    >>> _clock(12.3), _clock(200), _clock(9000)
    ('12 s', '3 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
