"""A graph as a picture at every hop: its nodes coloured by how large their embedding is, white to red (AutoBuild)."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from q2.errors import PredictorError, why
from q2.files import replacing, write_text
from q2.search.predictor.dataset import Floats, GraphSet
from q2.search.predictor.train import node_norms
from q2.search.predictor.trained import Trained

__all__ = ["draw_hops", "hop_scores"]

_BOX = {"shape": "box", "style": "filled,rounded", "fontname": "Helvetica", "fontsize": "11", "color": "#9a9a9a"}


def hop_scores(graphs: GraphSet, trained: Trained, index: int) -> Floats:
    """Return every node's score at every hop (nodes, 5) of one graph, the mean over the folds.

    A fold's score is the L1 norm of the node's embedding, minus the mean over the training graphs, divided by the
    deviation. Raises PredictorError for a predictor of other graphs.
    """
    table, found = trained.table(graphs), []
    for model, fold in zip(trained.models(), trained.folds, strict=True):
        norms = node_norms(model, table, graphs, np.array([index]))
        found.append((norms - fold.hop_means) / fold.hop_deviations)
    return np.asarray(np.mean(found, axis=0))


def draw_hops(graphs: GraphSet, trained: Trained, index: int, folder: str | Path) -> tuple[Path, ...]:
    """Write ``graph-<index>-hop-<h>.png`` and ``.svg`` for hops 0 to 4, and the scores as ``graph-<index>.csv``.

    Raises PredictorError.
    """
    scores, folder = hop_scores(graphs, trained, index), Path(folder)
    topology = graphs.topologies[int(graphs.which[index])]
    rows = graphs.rows[graphs.starts[index] : graphs.starts[index + 1]].tolist()
    features = [graphs.features(row) for row in rows]
    unit_of = {node: unit.name for unit in topology.units for node in unit.nodes}
    canvas = _canvas(graphs, index)
    paths = []
    try:
        for hop in range(scores.shape[1]):
            _colour(canvas, scores[:, hop], f"{_title(graphs, trained, index)}, hop {hop}")
            for kind in ("png", "svg"):
                paths.append(folder / f"graph-{index}-hop-{hop}.{kind}")
                with replacing(paths[-1]) as beside:
                    beside.write_bytes(canvas.draw(format=kind))
        text = io.StringIO()
        names = (*graphs.fields, *graphs.numbers)
        header = ("node", "unit", *names, *(f"hop {hop}" for hop in range(scores.shape[1])))
        lines = [
            (name, unit_of.get(i, ""), *(features[i][key] for key in names), *scores[i].tolist())
            for i, name in enumerate(topology.nodes)
        ]
        csv.writer(text, lineterminator="\n").writerows([header, *lines])
        paths.append(folder / f"graph-{index}.csv")
        write_text(paths[-1], text.getvalue())
    except OSError as error:
        raise PredictorError(f"{folder}: cannot be written: {why(error)}") from error
    return tuple(paths)


def _canvas(graphs: GraphSet, index: int) -> Any:
    """Return the graph, laid out, a frame for every unit."""
    import pygraphviz

    topology = graphs.topologies[int(graphs.which[index])]
    canvas = pygraphviz.AGraph(directed=True, rankdir="TB", nodesep="0.15", ranksep="0.3", fontname="Helvetica")
    canvas.graph_attr.update(labelloc="t", label=" ")
    canvas.node_attr.update(_BOX)
    for i, name in enumerate(topology.nodes):
        features = graphs.features(int(graphs.rows[graphs.starts[index] + i]))
        told = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in
                         features.items())  # fmt: skip
        canvas.add_node(i, label=f"{name}\n{_wrapped(told)}")
    for source, target in topology.edges.T.tolist():
        canvas.add_edge(source, target, color="#606060", arrowsize="0.6")
    for unit in topology.units:
        canvas.add_subgraph(list(unit.nodes), f"cluster_{unit.name}", label=unit.name, color="#b0b0b0", fontsize="11")
    canvas.layout(prog="dot")
    return canvas


def _wrapped(text: str, width: int = 34) -> str:
    lines = [""]
    for part in text.split(", "):
        joined = f"{lines[-1]}, {part}" if lines[-1] else part
        lines = [*lines[:-1], joined] if len(joined) <= width else [*lines, part]
    return "\n".join(lines)


def _colour(canvas: Any, scores: Floats, title: str) -> None:
    low, span = float(scores.min()), float(np.ptp(scores)) or 1.0
    for i, score in enumerate(scores.tolist()):
        canvas.get_node(i).attr["fillcolor"] = f"0.020 {0.75 * (score - low) / span:.3f} 1.000"
    canvas.graph_attr["label"] = f"{title}\nwhite {low:.2f} to red {low + span:.2f} deviations of a node's score"


def _title(graphs: GraphSet, trained: Trained, index: int) -> str:
    return f"graph {index}: {trained.target} {graphs.metrics[trained.target][index]:.4g}"
