"""The predictor of graphs of any kind: trained on a file of graphs, and what it says of features, hops and modules."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from q2.errors import ConfigError, PredictorError, there_are
from q2.passes import TextTable
from q2.progress import Progress, silent
from q2.search.objective.target import Target
from q2.search.predictor.dataset import GraphSet
from q2.search.predictor.explain import feature_table, hop_table, unit_table, value_table
from q2.search.predictor.modules import Modules, score_modules
from q2.search.predictor.picture import draw_hops
from q2.search.predictor.trained import Trained

__all__ = ["GRAPHS", "MODULES", "draw_graph", "explain", "make_modules", "of_graphs", "read_graphs"]

GRAPHS, MODULES = "graphs.npz", "modules.json"


def read_graphs(path: Path, target: str = "") -> tuple[GraphSet, str]:
    """Return the graphs of a JSON file and the target, a metric of theirs among their metrics; else the first.

    `target` may be an expression over the metrics. Raises `Q2Error`, one line.
    """
    graphs = GraphSet.read_json(path)
    if not graphs.metrics:
        raise PredictorError(f"{path}: the graphs have no metrics")
    names = list(graphs.metrics)
    wanted = Target.parse(target, names) if target and target not in names else None
    if wanted is None:
        return graphs, target or names[0]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*graphs.metrics.values(), strict=True)]
    y = wanted.values(rows, [f"graph {i}" for i in range(len(rows))])
    return replace(graphs, metrics={**graphs.metrics, str(wanted): y}), str(wanted)


def of_graphs(folder: Path) -> bool:
    """Whether a predictor's folder is that of a graph set."""
    return (folder / GRAPHS).exists()


def _read(folder: Path) -> tuple[Trained, GraphSet]:
    """Read a predictor and the graphs it was trained on. Raises PredictorError."""
    trained = Trained.load(folder)
    if not of_graphs(folder):
        raise PredictorError(f"{folder}: no {GRAPHS}: expected what q2 predictor train --graphs wrote")
    graphs = GraphSet.load(folder / GRAPHS)
    if trained.target not in graphs.metrics:
        raise PredictorError(
            f"{folder / GRAPHS}: no metric {trained.target!r}{there_are(trained.target, graphs.metrics)}"
        )
    return trained, graphs


def make_modules(
    folder: Path, out: Path | None = None, *, top: int = 0, progress: Progress = silent
) -> tuple[Modules, Path]:
    """Score every module of the graphs that the predictor in `folder` knows; save the `top` best of each unit, or all.

    Raises `Q2Error`, one line.
    """
    trained, graphs = _read(folder)
    if not any(topology.units for topology in graphs.topologies):
        raise PredictorError(f"{folder}: no node of its graphs names a 'unit': there are no modules to label")
    modules = score_modules(graphs, trained, progress).top(top)
    path = out or folder / MODULES
    modules.save(path)
    return modules, path


def explain(folder: Path) -> dict[str, TextTable]:
    """Return tables of what the predictor in `folder` learnt: of features (FE-MLP alone), of hops, of units.

    Raises PredictorError.
    """
    trained, tables = Trained.load(folder), {}
    graphs = _read(folder)[1] if of_graphs(folder) else None
    if trained.training.embedding == "fe-mlp":
        if graphs is not None:
            tables["features"] = feature_table(trained, graphs)
        tables["values"] = value_table(trained)
    tables["hops"] = hop_table(trained)
    if graphs is not None and any(topology.units for topology in graphs.topologies):
        tables["units"] = unit_table(trained, graphs)
    return tables


def draw_graph(folder: Path, graph: str, out: Path) -> tuple[int, tuple[Path, ...]]:
    """Draw a graph of those that the predictor in `folder` knows at hops 0 to 4; return its number and the files.

    `graph` is a number, ``best`` for the one with the highest target, or ``predicted`` for the highest prediction.
    Raises `Q2Error`, one line.
    """
    trained, graphs = _read(folder)
    if graph == "best":
        index = int(np.argmax(graphs.metrics[trained.target]))
    elif graph == "predicted":
        index = int(np.argmax(trained.predict(graphs)[0]))
    elif graph.isdecimal() and int(graph) < len(graphs):
        index = int(graph)
    else:
        raise ConfigError(f"--graph {graph}: expected best, predicted, or a number from 0 to {len(graphs) - 1}")
    return index, draw_hops(graphs, trained, index, out)
