"""A plot of measured sensitivities: the noise of every layer alone, at each option."""

from __future__ import annotations

import math

import numpy as np

from q2.quant.options import NONE, Option
from q2.quant.sensitivity import SensitivityTable, noise_of
from q2.search.predictor.plots import Plot, tall_figure

__all__ = ["measured"]


def measured(table: SensitivityTable) -> Plot:
    """Draw the noise to signal of every layer at each of its options, the most sensitive layer first; the base's too.

    The rows are layer, option, SQNR in dB and noise to signal.
    """
    layers = [layer for layer, _ in table.ranked()]
    options = list(dict.fromkeys(option for row in table.sqnr_db.values() for option in row))
    options.sort(key=lambda option: (-(Option.parse(option).bits or 16), option))
    figure, axes = tall_figure(len(layers))
    rows: list[tuple[object, ...]] = []
    for number, option in enumerate(options):
        points = [(i, table.sqnr_db[layer].get(option, math.nan)) for i, layer in enumerate(layers)]
        known = [(i, db) for i, db in points if math.isfinite(db)]
        rows += [(layers[i], option, db, noise_of(db)) for i, db in known]
        shape = "o^svDPX*<>"[number % 10]
        axes.plot([noise_of(db) for _, db in known], [i for i, _ in known], shape, markersize=4, label=option)
    axes.set_xscale("log")
    if any(option != NONE for option in table.base.values()):
        axes.axvline(noise_of(table.base_db), color="black", linewidth=0.8, label="base")
    axes.set_yticks(np.arange(len(layers)), layers, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel(f"noise to signal at {table.fidelity}, the layer alone at the option (more sensitive →)")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return Plot(figure, ("layer", "option", "sqnr_db", "noise_to_signal"), tuple(rows))
