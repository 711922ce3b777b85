"""What a predictor learnt, as tables: features' importance, the moments of every hop, those of units (AutoBuild)."""

from __future__ import annotations

import numpy as np
import torch

from q2.passes import TextTable
from q2.search.predictor.dataset import Floats, GraphSet
from q2.search.predictor.features import FeatureMLP
from q2.search.predictor.modules import unit_moments
from q2.search.predictor.train import Fold
from q2.search.predictor.trained import Trained

__all__ = ["feature_table", "hop_table", "unit_table", "value_table"]


def feature_table(trained: Trained, graphs: GraphSet) -> TextTable:
    """Return what every feature adds to nodes' scores at hop 0: mean, deviation and range over a set's nodes.

    Only of a predictor with embedding ``fe-mlp``. The highest mean first.
    """
    table, parts = trained.table(graphs), []
    for model in trained.models():
        assert isinstance(model.embedding, FeatureMLP)
        with torch.no_grad():
            parts.append(model.embedding(table.codes, table.values).double().numpy()[graphs.rows])
    added: Floats = np.mean(parts, axis=0)
    names = (*trained.fields, *trained.numbers)
    order = np.argsort(-added.mean(0), kind="stable").tolist()
    rows = tuple((names[i], *(f"{of(added[:, i]):.4g}" for of in (np.mean, np.std, np.min, np.max))) for i in order)
    return TextTable(("feature", "adds", "deviation", "min", "max"), rows)


def value_table(trained: Trained) -> TextTable:
    """Return what every value of every feature adds to a score, mean ± deviation over the folds, the highest first.

    Raises PredictorError for a predictor with a plain embedding.
    """
    rows = [
        (feature, value, f"{scores.mean():.4g} ± {scores.std():.2g}")
        for feature, values in trained.importance().items()
        for value, scores in sorted(values.items(), key=lambda item: -float(item[1].mean()))
    ]
    return TextTable(("feature", "value", "adds"), tuple(rows))


def hop_table(trained: Trained) -> TextTable:
    """Return mean and deviation of nodes' scores (L1 norms) at every hop, its weight, and its test SRCC."""
    summary, rows = trained.summary(), []
    for hop in range(len(trained.folds[0].hop_means)):
        columns = [
            [float(values[hop]) for values in found] for found in zip(*map(_moments, trained.folds), strict=True)
        ]
        mean, deviation, weight = (f"{np.mean(column):.4g}" for column in columns)
        srcc = summary.get(f"srcc hop {hop}")
        rows.append((str(hop), mean, deviation, weight, "" if srcc is None else f"{srcc[0]:.3f} ± {srcc[1]:.3f}"))
    return TextTable(("hop", "mean of norms", "deviation", "weight", "SRCC"), tuple(rows))


def _moments(fold: Fold) -> tuple[Floats, Floats, Floats]:
    return fold.hop_means, fold.hop_deviations, fold.hop_weights


def unit_table(trained: Trained, graphs: GraphSet) -> TextTable:
    """Return mean and deviation of the target over the graphs that have a unit with so many hops."""
    found = unit_moments(graphs, graphs.metrics[trained.target])
    rows = [(unit, str(h), str(n), f"{mean:.4g}", f"{off:.4g}") for (unit, h), (n, mean, off) in found.items()]
    return TextTable(("unit", "hops", "graphs", f"mean {trained.target}", "deviation"), tuple(rows))
