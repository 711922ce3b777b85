"""Graph sets: from plain values, from JSON, to a file and back without pickle; graphs of several topologies at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from q2.errors import PredictorError
from q2.search.predictor.dataset import GraphSet, Topology
from q2.search.predictor.features import NodeEmbedding
from q2.search.predictor.model import HopNetwork, Scale, Table
from tests.search.predictor.spaces import graphs, space


def sequences(count: int) -> list[dict[str, Any]]:
    """Chains of random length, as AutoBuild's sequence graphs are."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        kernels = rng.integers(1, 4, rng.integers(2, 6))
        nodes = [{"op": f"conv{k}", "width": float(8 * k)} for k in kernels]
        edges = [[i, i + 1] for i in range(len(nodes) - 1)]
        made.append({"nodes": nodes, "edges": edges, "metrics": {"accuracy": float(kernels.sum())}})
    return made


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    for made in (graphs(space("dit"), 5), GraphSet.of(sequences(4))):
        made.save(tmp_path / "set.npz")
        again = GraphSet.load(tmp_path / "set.npz")
        assert (dict(again.fields), again.numbers, len(again)) == (dict(made.fields), made.numbers, len(made))
        for name in ("codes", "values", "which", "rows"):
            assert np.array_equal(getattr(again, name), getattr(made, name))
        assert {name: metric.tolist() for name, metric in again.metrics.items()} == {
            name: metric.tolist() for name, metric in made.metrics.items()
        }
        for old, new in zip(made.topologies, again.topologies, strict=True):
            assert (new.nodes, new.weights, new.units) == (old.nodes, old.weights, old.units)
            assert np.array_equal(new.edges, old.edges)


def test_graphs_of_other_topologies_side_by_side_are_as_alone() -> None:
    made = GraphSet.of(sequences(7))
    torch.manual_seed(0)
    model = HopNetwork(NodeEmbedding(made.fields, 1), made.hops(4)).eval()
    table = Table.of(made, Scale.of(made))
    together = made.layout(range(7), 4)
    assert together.copies == 1
    with torch.no_grad():
        prediction, scores = model(table, together)
        alone = [model(table, made.layout([i], 4)) for i in range(7)]
    torch.testing.assert_close(prediction, torch.cat([one for one, _ in alone]))
    torch.testing.assert_close(scores, torch.cat([one for _, one in alone]))


def test_json_reads_as_the_same_set(tmp_path: Path) -> None:
    path = tmp_path / "graphs.json"
    path.write_text(json.dumps({"graphs": sequences(4)}), encoding="utf-8")
    read, made = GraphSet.read_json(path), GraphSet.of(sequences(4))
    assert np.array_equal(read.codes, made.codes)
    assert np.array_equal(read.values, made.values)
    assert read.metrics["accuracy"].tolist() == made.metrics["accuracy"].tolist()


def test_files_that_are_damaged_or_others_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    graphs(space("dit"), 3).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PredictorError, match=r"^.*set\.npz: cannot be read: .*$"):
        GraphSet.load(path)
    with pytest.raises(PredictorError, match="cannot be read"):
        GraphSet.load(tmp_path / "none.npz")
    np.savez(path, other=np.zeros(3))
    with pytest.raises(PredictorError, match="cannot be read"):
        GraphSet.load(path)
    np.savez(path, head=np.frombuffer(b'{"q2": "labels", "version": 1}', dtype=np.uint8))
    with pytest.raises(PredictorError, match=r"set\.npz: expected a file of graphs, version 1$"):
        GraphSet.load(path)
    np.savez(path, head=np.frombuffer(b'{"q2": "graphs", "version": 1}', dtype=np.uint8))
    with pytest.raises(PredictorError, match=r"set\.npz: damaged: KeyError"):
        GraphSet.load(path)


@pytest.mark.parametrize("change", [{"hops": {}}, {"hops": [1]}, {"last": 0.5}, {"layers": ["0"]}])
def test_a_unit_with_no_whole_numbers_is_refused(change: dict[str, object]) -> None:
    unit = {"name": "u", "kind": "attn", "layers": [0], "nodes": [0], "last": 0, "hops": 1}
    head = {"nodes": ["a"], "weights": [0], "units": [unit | change]}
    with pytest.raises(PredictorError, match="no whole number"):
        Topology.of_head(head, np.zeros((2, 0), dtype=np.int64))


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, head=np.array([{"q2": "graphs"}], dtype=object))
    with pytest.raises(PredictorError, match="cannot be read: .*pickle"):
        GraphSet.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": [[0, 9]]}, "edge or unit with a node outside"),
        ({"nodes": [{"op": "conv1"}, {"width": 2.0}]}, "malformed, KeyError at 'op'"),
        ({"nodes": [{"op": "conv1", "width": None}]}, "malformed, TypeError"),
        ({"nodes": [{"op": "conv1", "width": float("nan")}], "edges": []}, "a numeric feature is NaN or infinite"),
        ({"metrics": {}}, "malformed, KeyError at 'accuracy'"),
    ],
)
def test_malformed_graphs_are_one_line(change: dict[str, Any], message: str) -> None:
    first, second = sequences(2)
    with pytest.raises(PredictorError, match=message):
        GraphSet.of([first, {**second, **change}])


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(PredictorError, match="without graphs"):
        GraphSet.of([])


def test_nodes_that_name_a_unit_are_modules_with_their_last_node_and_hops() -> None:
    nodes = [{"op": "a", "unit": u, "name": f"n{i}"} for i, u in enumerate(["s1", "s1", "s1", "s2", "s2"])]
    graph = {"nodes": [*nodes, {"op": "b"}], "edges": [[0, 2], [2, 1], [1, 3], [3, 4], [4, 5]], "metrics": {"y": 1.0}}
    made = GraphSet.of([graph, graph])
    assert list(made.fields) == ["op"]
    assert (len(made.topologies), made.which.tolist()) == (1, [0, 0])
    first, second = made.topologies[0].units
    assert (first.name, first.nodes, first.last, first.hops) == ("s1", (0, 1, 2), 1, 2)
    assert (second.name, second.nodes, second.last, second.hops) == ("s2", (3, 4), 4, 1)
    assert made.topologies[0].nodes == ("n0", "n1", "n2", "n3", "n4", "5")
    assert made.hops(4) == (0, 1, 2)
    deep = {"nodes": [{"op": "a", "unit": "all"}] * 7, "edges": [[i, i + 1] for i in range(6)], "metrics": {}}
    assert GraphSet.of([deep]).topologies[0].units[0].hops == 4  # no embedding sees farther
