"""Graph sets as PyTorch Geometric's data, batches and data sets, and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GATv2Conv

from q2.errors import PredictorError
from q2.search.predictor.dataset import GraphSet
from q2.search.predictor.pyg import GraphDataset, from_data, to_batch, to_data
from tests.search.predictor.spaces import graphs, space
from tests.search.predictor.test_dataset import sequences


def same(a: GraphSet, b: GraphSet) -> None:
    assert (dict(a.fields), a.numbers, len(a)) == (dict(b.fields), b.numbers, len(b))
    assert np.array_equal(a.codes[a.rows], b.codes[b.rows])
    assert np.array_equal(a.values[a.rows], b.values[b.rows])
    assert {name: y.tolist() for name, y in a.metrics.items()} == {name: y.tolist() for name, y in b.metrics.items()}
    for i, j in zip(a.which, b.which, strict=True):
        one, two = a.topologies[i], b.topologies[j]
        assert (one.nodes, one.weights, one.units) == (two.nodes, two.weights, two.units)
        assert np.array_equal(one.edges, two.edges)


@pytest.mark.parametrize("made", [graphs(space("dit"), 5), GraphSet.of(sequences(5))], ids=["dit", "of any kind"])
def test_there_and_back_is_the_same_set(made: GraphSet) -> None:
    names = (made.fields, made.numbers, tuple(made.metrics))
    data = to_data(made, torch.float64)
    same(from_data(data, *names), made)
    same(from_data(Batch.from_data_list(data), *names), made)
    again = from_data(to_data(made), *names)
    np.testing.assert_allclose(again.values[again.rows], made.values[made.rows], rtol=1e-6)
    assert len(again.topologies) == len(made.topologies)


def test_a_batch_passes_through_modules_of_pytorch_geometric() -> None:
    made = GraphSet.of(sequences(3))
    batch = to_batch(made, [2, 0])
    assert batch.num_graphs == 2
    assert batch.y.tolist() == [[made.metrics["accuracy"][2]], [made.metrics["accuracy"][0]]]
    assert GATv2Conv(1, 4)(batch.x, batch.edge_index).shape == (len(batch.batch), 4)


def test_a_json_file_is_a_data_set_with_loaders_and_parts(tmp_path: Path) -> None:
    path = tmp_path / "graphs.json"
    path.write_text(json.dumps({"graphs": sequences(8)}), encoding="utf-8")
    data = GraphDataset(path)
    assert (len(data), data.numbers, data.metrics) == (8, ("width",), ("accuracy",))
    same(data.graphs(), GraphSet.of(sequences(8)))
    part = data[torch.tensor([5, 1])].graphs()
    assert part.metrics["accuracy"].tolist() == [data[i].y.item() for i in (5, 1)]
    sizes = [batch.num_graphs for batch in DataLoader(data, batch_size=3)]
    assert sizes == [3, 3, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["graphs.json"]


def test_data_of_others_get_names_and_equal_edges_are_one_topology() -> None:
    edges = torch.tensor([[0, 1], [1, 2]])
    made = from_data([Data(x=torch.randn(3, 2), edge_index=edges, y=torch.tensor([float(i)])) for i in range(4)])
    assert (made.numbers, dict(made.fields), list(made.metrics)) == (("x 0", "x 1"), {}, ["y 0"])
    assert (len(made.topologies), made.layout(range(4), 4).copies) == (1, 4)


def test_data_that_do_not_fit_are_one_line_with_the_graph() -> None:
    good = Data(x=torch.randn(2, 1), edge_index=torch.tensor([[0], [1]]))
    with pytest.raises(PredictorError, match="^a graph set without graphs$"):
        from_data([])
    with pytest.raises(PredictorError, match="^graph 1: no data of PyTorch Geometric that fits: a graph of 2 nodes"):
        from_data([good, Data(x=torch.randn(2, 1), edge_index=torch.tensor([[0], [7]]))])
    with pytest.raises(PredictorError, match="^graphs: their features or targets differ in number"):
        from_data([good, Data(x=torch.randn(2, 3), edge_index=torch.tensor([[0], [1]]))])
    with pytest.raises(PredictorError, match="^metrics: 2 names for 0 columns of y$"):
        from_data([good], metrics=["a", "b"])
