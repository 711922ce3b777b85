"""Trials of one denoiser with what is known of its layers, as files: made once, read by every experiment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import q2
from q2.quant.base import Fitted
from q2.quant.calibration.rows import RowStore
from q2.quant.options import NONE, Option
from q2.quant.sensitivity import noise_of
from q2.search.evaluation.costs import Costs
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.space import NodeSpace
from q2.search.trials.store import TrialStore
from q2.session.bank import bank_folder, find_bank
from q2.session.calibrate import find_rows, rows_folder

__all__ = ["ACTIVATIONS", "Trials", "export"]

ACTIVATIONS = ("log rms", "log kurtosis", "log largest/rms", "log spread of channels")
"""Of a layer's input: root mean square, kurtosis, largest value, and deviation of its channels' log rms."""


@dataclass(frozen=True, eq=False)
class Trials:
    """Random trials: `chosen` (trials, choices) and their SQNR `y` (trials,), with the space that they are of.

    `signal` (choices,) is the square sum of a choice's outputs; `errors` (choices, options) that of their errors;
    `weight_errors` those of the weights; `activations` (choices, 4) as `ACTIVATIONS` says. `alone` (choices, options)
    is the noise measured with one choice alone at an option, NaN where it was not.
    """

    name: str
    space: NodeSpace
    chosen: Ints
    y: Floats
    signal: Floats
    errors: Floats
    weight_errors: Floats
    activations: Floats
    alone: Floats

    @classmethod
    def load(cls, folder: Path) -> Trials:
        """Read what `export` wrote."""
        with np.load(folder / "trials.npz", allow_pickle=False) as arrays:
            return cls(folder.name, NodeSpace.load(folder / "space.npz"), **{name: arrays[name] for name in arrays})

    def picked(self, table: Floats, chosen: Ints) -> Floats:
        """Return a table's (choices, options) values of options (n, choices)."""
        return np.asarray(table[np.arange(len(table)), chosen])

    def sensitivities(self) -> Floats:
        """Return the most noise that any option of a choice was measured to make alone (choices,); NaN where none."""
        most = np.where(np.isfinite(self.alone), self.alone, -np.inf).max(1)
        return np.asarray(np.where(np.isfinite(most), most, np.nan))


def export(run: Path, out: Path, config: str, settings: dict[str, str], alone: Path | None) -> Trials:
    """Write the random forward trials of a search's folder, and what bank and rows say of the layers."""
    session = q2.open(config, settings)
    bank = find_bank(session, bank_folder(session, run))
    rows = find_rows(session, rows_folder(session, run))
    graph = session.graph
    found = session.space_of(graph)
    costs = Costs.of_graph(graph, found, session.context(bank), bank)
    space = Bridge.of(graph, found, costs).space
    complete = [trial for trial in TrialStore.read(run / "trials") if trial.state == "complete"]
    kept = [trial for trial in complete if trial.strategy == "random" and math.isfinite(trial.metrics["SQNR"])]
    layers = {choice.name: choice.layers for choice in found.choices}
    names = [next(own for name, own in layers.items() if name == choice or choice in own) for choice in space.choices]
    options = [Option.parse(text) for text in space.options]
    fits = [[[bank.fitted(layer, option) for layer in own] for option in options] for own in names]
    errors = np.array([[_sum(cell, "error") for cell in row] for row in fits])
    signal = np.array([max(_sum(cell, "signal") for cell in row) for row in fits])
    weights = np.array([[sum(fit.quantized_error for fit in cell if fit) for cell in row] for row in fits])
    acts = np.array([_activations(rows, graph.choices[own[0]].layer.name) for own in names])
    table = np.full(space.bits.shape, np.nan) if alone is None else _alone(space, alone)
    chosen = space.encode([trial.recipe for trial in kept])
    y = np.array([trial.metrics["SQNR"] for trial in kept])
    out.mkdir(parents=True, exist_ok=True)
    space.save(out / "space.npz")
    np.savez_compressed(
        out / "trials.npz",
        chosen=chosen,
        y=y,
        signal=signal,
        errors=errors,
        weight_errors=weights,
        activations=acts,
        alone=table,
    )
    return Trials.load(out)


def _sum(cell: list[Fitted | None], name: str) -> float:
    return float(sum(getattr(fit.outputs, name) for fit in cell if fit and fit.outputs))


def _activations(rows: RowStore, layer: str) -> list[float]:
    found = rows.rows(layer)
    if found is None:
        return [0.0] * len(ACTIVATIONS)
    x = found.values.double().numpy()
    squares = np.square(x)
    mean = float(squares.mean()) + 1e-30
    channels = np.log(squares.mean(0) + 1e-6 * mean) / 2
    return [
        math.log(mean) / 2,
        math.log(float(np.square(squares).mean()) / mean**2),
        math.log(float(np.abs(x).max()) / math.sqrt(mean) + 1e-30),
        float(channels.std()),
    ]


def _alone(space: NodeSpace, folder: Path) -> Floats:
    table = np.full(space.bits.shape, np.nan)
    none = space.options.index(NONE)
    for trial in TrialStore.read(folder / "trials"):
        if trial.state != "complete" or trial.fidelity != "forward":
            continue
        row = space.encode([trial.recipe])[0]
        (changed,) = np.nonzero(row != none)
        if len(changed) == 1:
            table[changed[0], row[changed[0]]] = noise_of(trial.metrics["SQNR"])
    table[np.isfinite(table).any(1), none] = 0
    return table
