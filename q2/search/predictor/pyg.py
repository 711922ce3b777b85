"""Graph sets as PyTorch Geometric has them: `Data`, `Batch` and an `InMemoryDataset`, and back.

A graph is a `Data` with ``x`` (nodes, numbers), the numeric features; ``codes`` (nodes, fields), the categorical ones
as indices of their values; ``edge_index`` (2, E); ``y`` (1, metrics); ``is_weight`` (nodes,), which nodes are averaged
at hop 0; and lists: ``names`` of the nodes and ``units`` (`UnitNodes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch, Data, InMemoryDataset

from q2.errors import PredictorError
from q2.search.predictor.dataset import Floats, GraphSet, Ints, Topology, UnitNodes, shared_topologies

__all__ = ["GraphDataset", "from_data", "to_batch", "to_data"]


def to_data(graphs: GraphSet, dtype: torch.dtype = torch.float32) -> list[Data]:
    """Return every graph of a set; numbers and metrics in `dtype`.

    >>> nodes = [{"op": "conv", "width": 8}, {"op": "pool", "width": 8}]
    >>> made = GraphSet.of([{"nodes": nodes, "edges": [[0, 1]], "metrics": {"accuracy": 0.5}}])
    >>> to_data(made)[0].edge_index.tolist(), to_data(made)[0].codes.tolist(), to_data(made)[0].y.tolist()
    ([[0], [1]], [[0], [1]], [[0.5]])
    """
    metrics = np.stack([*graphs.metrics.values()], axis=1) if graphs.metrics else np.zeros((len(graphs), 0))
    values, codes, y = torch.from_numpy(graphs.values).to(dtype), torch.from_numpy(graphs.codes), metrics
    found = []
    for i, which in enumerate(graphs.which.tolist()):
        topology = graphs.topologies[which]
        rows = torch.from_numpy(graphs.rows[graphs.starts[i] : graphs.starts[i + 1]])
        weights = torch.zeros(len(topology.nodes), dtype=torch.bool)
        weights[list(topology.weights)] = True
        found.append(
            Data(
                x=values[rows],
                edge_index=torch.from_numpy(np.array(topology.edges, order="C")),
                y=torch.from_numpy(y[i : i + 1]).to(dtype),
                codes=codes[rows],
                is_weight=weights,
                names=list(topology.nodes),
                units=list(topology.units),
            )
        )
    return found


def to_batch(graphs: GraphSet, chosen: Sequence[int] | Ints | None = None) -> Batch:
    """Return the graphs with the numbers `chosen` (graphs,), or all, as a `Batch` for modules of PyTorch Geometric."""
    listed = to_data(graphs)
    return Batch.from_data_list([listed[i] for i in (range(len(listed)) if chosen is None else chosen)])


def from_data(
    data: Batch | Iterable[Data],
    fields: Mapping[str, Sequence[str]] | None = None,
    numbers: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
) -> GraphSet:
    """Return the set of graphs that `to_data` or `to_batch` made, or of any others with ``x`` and ``edge_index``.

    `fields` are the categorical features and their values, `numbers` and `metrics` the names of the columns of ``x``
    and ``y``; without them they are called ``code 0``, ``x 0`` and ``y 0``, and so on. Equal edges are one topology.
    Raises PredictorError, with the graph, for what is missing or does not fit.
    """
    listed = list(data.to_data_list() if isinstance(data, Batch) else data)
    if not listed:
        raise PredictorError("a graph set without graphs")
    parts, topologies = [], []
    for i, one in enumerate(listed):
        try:
            parts.append(_arrays(one))
            topologies.append(_topology(one, len(parts[-1][0])))
        except (AttributeError, TypeError, ValueError, RuntimeError, PredictorError) as error:
            raise PredictorError(f"graph {i}: no data of PyTorch Geometric that fits: {error}") from error
    try:
        values, codes, y = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    except ValueError as error:
        raise PredictorError(f"graphs: their features or targets differ in number: {error}") from error
    if fields is None:
        fields = {f"code {i}": tuple(map(str, range(int(column.max()) + 1))) for i, column in enumerate(codes.T)}
    numbers = [f"x {i}" for i in range(values.shape[1])] if numbers is None else numbers
    metrics = [f"y {i}" for i in range(y.shape[1])] if metrics is None else metrics
    if len(metrics) != y.shape[1]:
        raise PredictorError(f"metrics: {len(metrics)} names for {y.shape[1]} columns of y")
    shared, which = shared_topologies(topologies)
    named = {name: y[:, i] for i, name in enumerate(metrics)}
    kinds = {name: tuple(texts) for name, texts in fields.items()}
    return GraphSet(kinds, tuple(numbers), codes, values, shared, which, np.arange(len(values)), named)


def _arrays(data: Data) -> tuple[Floats, Ints, Floats]:
    """Return numbers (nodes, numbers), codes (nodes, fields) and metrics (1, metrics)."""
    values = data.x.detach().cpu().double().numpy()
    codes = data.codes.cpu().numpy() if "codes" in data else np.zeros((len(values), 0))
    y = np.zeros((1, 0)) if data.y is None else data.y.detach().cpu().double().reshape(1, -1).numpy()
    return values.reshape(len(values), -1), codes.astype(np.int64), y


def _topology(data: Data, count: int) -> Topology:
    names = tuple(map(str, data.names)) if "names" in data else tuple(map(str, range(count)))
    marked = data.is_weight.cpu().numpy() if "is_weight" in data else np.ones(count, dtype=bool)
    units: Iterable[UnitNodes] = data.units if "units" in data else ()
    edges = data.edge_index.cpu().numpy().astype(np.int64)
    return Topology(names, edges, tuple(np.flatnonzero(marked).tolist()), tuple(units))


class GraphDataset(InMemoryDataset):  # type: ignore[misc]  # PyTorch Geometric is not typed
    """A graph set, or a JSON file of graphs, as a data set of PyTorch Geometric's: for its loaders, splits, transforms.

    `fields`, `numbers` and `metrics` name the columns of ``codes``, ``x`` and ``y``. Nothing is written to disk. Raises
    PredictorError, as `GraphSet.read_json` does.
    """

    def __init__(self, graphs: GraphSet | str | Path, transform: Any = None) -> None:
        super().__init__(None, transform)
        made = graphs if isinstance(graphs, GraphSet) else GraphSet.read_json(graphs)
        self.fields, self.numbers, self.metrics = dict(made.fields), made.numbers, tuple(made.metrics)
        self.data, self.slices = self.collate(to_data(made))

    def graphs(self) -> GraphSet:
        """Return the set again, or what is left of it after indexing: ``dataset[:10].graphs()``."""
        return from_data(list(self), self.fields, self.numbers, self.metrics)
