"""Lines and tables about a predictor: how well it ranks, and which layers it found sensitive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from q2.passes import TextTable
from q2.search.predictor.dataset import Floats
from q2.search.predictor.label import Labels
from q2.search.predictor.modules import Modules
from q2.search.predictor.trained import Trained

__all__ = ["extremes", "fold_tables", "mean_sd", "module_table", "sensitivity_tables"]

_NAMES = {"srcc": "SRCC", "ndcg@10": "NDCG@10", "mae": "MAE", "mape": "MAPE"}


def mean_sd(values: Floats | Sequence[float]) -> str:
    """Return the mean and standard deviation of values (n,) as text.

    >>> mean_sd([0.5, 0.7])
    '0.60 ± 0.10'
    """
    return f"{np.mean(values):.2f} ± {np.std(values):.2f}"


def fold_tables(trained: Trained, others: Mapping[str, Mapping[str, Floats]]) -> tuple[TextTable, TextTable]:
    """Return how well the predictor ranks every fold's test part, and how well each of its hops and `others` do.

    `others` maps a name to its metrics, which are arrays (folds,).
    """
    columns: dict[str, Sequence[float] | Floats] = {
        shown: [fold.metrics[name] for fold in trained.folds] for name, shown in _NAMES.items()
    }
    rows = [(str(i), *(f"{column[i]:.4g}" for column in columns.values())) for i in range(len(trained.folds))]
    rows.append(("mean ± sd", *(f"{np.mean(c):.4g} ± {np.std(c):.2g}" for c in columns.values())))
    folds = TextTable(("fold", *columns), tuple(rows))
    ranked = {"predictor": {name: trained.summary()[name] for name in ("srcc", "ndcg@10")}}
    for hop in trained.hops:
        ranked[f"hop {hop}"] = {name: trained.summary()[f"{name} hop {hop}"] for name in ("srcc", "ndcg@10")}
    for other, found in others.items():
        ranked[other] = {name: (float(v.mean()), float(v.std())) for name, v in found.items()}
    shown = [
        (name, *(f"{found[key][0]:.3f} ± {found[key][1]:.3f}" for key in ("srcc", "ndcg@10")))
        for name, found in ranked.items()
    ]
    return folds, TextTable(("mean ± sd over the folds", "SRCC", "NDCG@10"), tuple(shown))


def sensitivity_tables(labels: Labels, count: int = 5) -> tuple[TextTable, TextTable]:
    """Return the `count` most sensitive and most tolerant layers and units, with the option that each wants most."""
    layers = [(name, spread, wants) for spread, name, wants in _layers(labels)]
    units = [
        (unit.name, float(np.ptp(unit.scores.sum(1))), ", ".join(dict.fromkeys(_texts(labels, unit.best))))
        for unit in labels.units
        if len(unit.scores) > 1
    ]
    return _extremes("layer", layers, count), _extremes("unit", units, count)


def module_table(modules: Modules, count: int = 3) -> TextTable:
    """Return the `count` best modules of every unit, and its last: score, graphs that have it, and its nodes."""
    rows = []
    for unit, found in modules.units.items():
        shown = [*enumerate(found[:count], 1), *([(len(found), found[-1])] if len(found) > count else [])]
        for rank, module in shown:
            spread = float(np.std(module.scores))
            nodes = " → ".join(
                " ".join(f"{v:g}" if isinstance(v, float) else v for v in n.values()) for n in module.nodes
            )
            rows.append((unit, str(rank), f"{module.score:.4g} ± {spread:.2g}", str(module.graphs), nodes))
    return TextTable(("unit", "rank", "score", "graphs", "nodes"), tuple(rows))


def extremes(labels: Labels, count: int = 3) -> str:
    """Return a line: the layers whose options differ most in score, with the best options, and the most tolerant."""
    found = sorted(_layers(labels), key=lambda row: -row[0])
    most = ", ".join(f"{name} (wants {wants})" for _, name, wants in found[:count])
    least = ", ".join(name for _, name, _ in found[::-1][:count])
    return f"most sensitive: {most}; most tolerant: {least}" if found else "every layer has one option alone"


def _layers(labels: Labels) -> list[tuple[float, str, str]]:
    """Return spread, name and best option of every layer that may take several."""
    total = labels.nodes.sum(2)
    several = np.flatnonzero(np.isfinite(total).sum(1) > 1).tolist()
    spread = np.nanmax(total[several], axis=1) - np.nanmin(total[several], axis=1) if several else ()
    return [
        (float(s), labels.choices[i], labels.options[int(np.nanargmax(total[i]))])
        for i, s in zip(several, spread, strict=True)
    ]


def _extremes(title: str, rows: list[tuple[str, float, str]], count: int) -> TextTable:
    ordered = sorted(rows, key=lambda row: -row[1])
    first, last = ordered[:count], ordered[max(count, len(ordered) - count) :]
    shown = [("most sensitive", *row) for row in first] + [("most tolerant", *row) for row in last[::-1]]
    cells = tuple((kind, name, f"{spread:.4g}", wants) for kind, name, spread, wants in shown)
    return TextTable(("", title, "spread of scores", "wants"), cells)


def _texts(labels: Labels, best: Mapping[str, int]) -> list[str]:
    return [labels.options[i] for i in best.values()]
