"""Which layers matter most: measured one at a time, or as a predictor's labels say."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from q2.quant.options import NONE
from q2.quant.sensitivity import SensitivityTable, signal_of
from q2.report.folder import RunFolder
from q2.report.parts import Chart, Section, Table
from q2.report.recipes import block_and_role
from q2.search.trials.singles import singles
from q2.search.trials.trial import Trial

__all__ = ["Sensitivities", "measured_sections", "sensitivities"]

_MOST = 25


@dataclass(frozen=True)
class Sensitivities:
    """How much each layer matters, the most sensitive first; where the numbers come from, and what they are.

    `units` are the same for units, where the source knows them.
    """

    source: str
    measure: str
    layers: Sequence[tuple[str, float]]
    units: Sequence[tuple[str, float]] = ()

    def sections(self) -> list[Section]:
        """Return charts of layers, units and blocks."""
        blocks: dict[str, list[float]] = defaultdict(list)
        for layer, value in self.layers:
            blocks[block_and_role(layer)[0] or "outside blocks"].append(value)
        means = sorted(((name, sum(each) / len(each)) for name, each in blocks.items()), key=lambda pair: -pair[1])
        charts = [_bars(self.layers, "layer", self.measure)]
        charts += [_bars(self.units, "unit", self.measure)] if self.units else []
        charts += [_bars(means, "block", f"mean {self.measure}")] if len(means) > 1 else []
        return [Section(f"Sensitivity, by {self.source}", charts, f"Longer is more sensitive: {self.measure}.")]


def sensitivities(run: RunFolder, trials: Sequence[Trial]) -> list[Sensitivities]:
    """Return what a search's folder knows of its layers, measurements before labels; nothing where it knows nothing."""
    return [found for found in (_measured([*run.trials]), _labelled(run)) if found is not None]


def _measured(trials: Sequence[Trial]) -> Sensitivities | None:
    """Return what trials say in which one layer alone is quantized."""
    table = singles(trials)
    return None if table is None else _of_table(table)


def _of_table(table: SensitivityTable) -> Sensitivities:
    layers = [(layer, spread) for layer, spread in table.ranked() if math.isfinite(spread)]
    where = "from a recipe" if any(option != NONE for option in table.base.values()) else "quantized alone"
    return Sensitivities("measurement", f"noise to signal at {table.fidelity}, each layer {where}", layers)


def measured_sections(run: RunFolder) -> list[Section]:
    """Return the charts and the table of what the pass ``sensitivity`` measured; nothing where it did not run."""
    path = run.path / "sensitivity.json"
    if not path.exists():
        return []
    table = SensitivityTable.load(path)
    signal = signal_of(table.fidelity)
    base = f"{table.base_db:.4g} dB" if any(option != NONE for option in table.base.values()) else "full precision"
    rows: list[list[str | int | float | None]] = [
        [layer, option, db, table.noise(layer, option), table.gain(layer, option)]
        for layer, row in table.sqnr_db.items()
        for option, db in row.items()
    ]
    heads = ["layer", "option", f"{signal} dB", "noise to signal", f"gain over the base ({base})"]
    return [*_of_table(table).sections(), Section("Layers alone", [Table(heads, rows, "", long=True)])]


def _labelled(run: RunFolder) -> Sensitivities | None:
    folder = run.path / "predictor"
    if not (folder / "labels.npz").exists():
        return None
    from q2.search.predictor.label import Labels

    labels = Labels.load(folder / "labels.npz")
    spread = labels.sensitivity().mean(axis=1)
    layers = sorted(zip(labels.choices, map(float, spread), strict=True), key=lambda pair: -pair[1])
    units = [(unit.name, float((unit.scores.max(0) - unit.scores.min(0)).mean())) for unit in labels.units]
    units.sort(key=lambda pair: -pair[1])
    return Sensitivities("the predictor's labels", "spread of the scores of a layer's options", layers, units)


def _bars(values: Sequence[tuple[str, float]], name: str, measure: str) -> Chart:
    shown: list[Mapping[str, Any]] = [{name: key, "value": value} for key, value in values[:_MOST]]
    spec = {
        "data": {"values": shown},
        "height": {"step": 17},
        "mark": {"type": "bar", "tooltip": True, "color": "#1f6feb"},
        "encoding": {
            "y": {"field": name, "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 340}},
            "x": {"field": "value", "type": "quantitative", "title": measure},
        },
    }
    note = f"The first {_MOST} of {len(values)} {name}s." if len(values) > _MOST else ""
    return Chart(spec, f"{measure} by {name}, {values[0][0]} first", note)
