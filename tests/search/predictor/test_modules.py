"""Modules of graphs: found once each, scored alone in the target's unit, and what a predictor learnt as tables."""

import importlib
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from q2.errors import PredictorError
from q2.search.metrics.rank import spearman
from q2.search.predictor.dataset import GraphSet
from q2.search.predictor.explain import feature_table, hop_table, unit_table, value_table
from q2.search.predictor.model import LAYERS
from q2.search.predictor.modules import Modules, score_modules, unit_moments
from q2.search.predictor.train import Training
from q2.search.predictor.trained import Trained, train
from tests.search.predictor.spaces import QUICK

NAS = Path(__file__).parents[3] / "examples" / "nas"
made: Any = importlib.import_module("examples.nas.make_graphs")


@cache
def nas() -> GraphSet:
    return GraphSet.read_json(NAS / "graphs.json")


@cache
def learnt() -> Trained:
    return train(nas(), "accuracy", Training(folds=2, epochs=40, embedding="fe-mlp"))


@cache
def scored() -> Modules:
    return score_modules(nas(), learnt())


def score(module: Any) -> float:
    """What the example plants in a module's accuracy."""
    total = 0.0
    for place, node in enumerate(module.nodes):
        unit = int(node["stage"]) - 1
        gain = made.GAIN[unit] + made.WIDE[unit] * (int(node["expansion"]) - 3) / 3
        total += (gain + made.LARGE[unit] * (int(node["kernel"]) - 3) / 4) * 0.7**place
    return total


def test_the_shipped_graphs_are_those_of_the_script() -> None:
    assert (NAS / "graphs.json").read_text(encoding="utf-8") == made.text()


def test_scores_rank_modules_by_what_was_planted() -> None:
    assert learnt().summary()["srcc"][0] > 0.8
    ranked = []
    for found in scored().units.values():
        assert [m.score for m in found] == sorted((m.score for m in found), reverse=True)
        ranked.append(spearman(np.array([m.score for m in found]), np.array([score(m) for m in found])))
    assert min(ranked) > 0.55  # of unit 1, which counts least
    assert np.mean(ranked) > 0.7


def test_every_module_is_there_once_with_its_graphs() -> None:
    seen: dict[str, list[object]] = {}
    for i, which in enumerate(nas().which.tolist()):
        for unit in nas().topologies[which].units:
            rows = nas().starts[i] + np.array(unit.nodes)
            seen.setdefault(unit.name, []).append(str([nas().features(int(nas().rows[row])) for row in rows]))
    for unit, found in scored().units.items():
        assert sum(module.graphs for module in found) == 160
        assert {str(list(module.nodes)) for module in found} == set(map(str, seen[unit]))
        assert all(module.edges == tuple((i, i + 1) for i in range(module.hops)) for module in found)


def test_a_score_is_the_norm_on_the_module_alone_brought_to_the_targets_distribution() -> None:
    module = scored().units["unit 2"][0]
    nodes = [{**node, "unit": "unit 2"} for node in module.nodes]
    single = GraphSet.of([{"nodes": nodes, "edges": [list(edge) for edge in module.edges], "metrics": {}}])
    codes = [[nas().fields[k].index(str(single.features(r)[k])) for k in nas().fields] for r in range(len(nodes))]
    alone = replace(single, fields=nas().fields, codes=np.array(codes))
    _, mean, deviation = unit_moments(nas(), nas().metrics["accuracy"])["unit 2", module.hops]
    for model, fold, score in zip(learnt().models(), learnt().folds, module.scores, strict=True):
        with torch.no_grad():
            x = model.nodes(learnt().table(alone), alone.layout([0], LAYERS))[module.hops][-1]
        z = (float(x.abs().sum()) - fold.hop_means[module.hops]) / fold.hop_deviations[module.hops]
        assert score == pytest.approx(mean + deviation * z, abs=1e-4)
    assert min(module.scores) <= module.score <= max(module.scores)


def test_a_file_gives_back_the_best_modules(tmp_path: Path) -> None:
    best = scored().top(2)
    assert {unit: len(found) for unit, found in best.units.items()} == dict.fromkeys(("unit 1", "unit 2", "unit 3"), 2)
    best.save(tmp_path / "modules.json")
    again = Modules.load(tmp_path / "modules.json")
    assert again.target == "accuracy"
    assert [vars(m) for m in again.units["unit 3"]] == [vars(m) for m in best.units["unit 3"]]
    (tmp_path / "modules.json").write_text('{"q2": "modules", "version": 1, "units": {"a": [{}]}}', encoding="utf-8")
    with pytest.raises(PredictorError, match=r"modules\.json: damaged: KeyError"):
        Modules.load(tmp_path / "modules.json")
    with pytest.raises(PredictorError, match=r"none\.json: cannot be read"):
        Modules.load(tmp_path / "none.json")


def test_graphs_without_units_have_no_modules() -> None:
    plain = [{"nodes": [{"op": "a"}, {"op": "b"}], "edges": [[0, 1]], "metrics": {"y": float(i)}} for i in range(9)]
    graphs = GraphSet.of(plain)
    with pytest.raises(PredictorError, match="^graphs: no node names a 'unit': there are no modules to label$"):
        score_modules(graphs, train(graphs, "y", replace(QUICK, epochs=1)))


def test_tables_say_what_features_hops_and_units_are() -> None:
    features = {row[0]: float(row[1]) for row in feature_table(learnt(), nas()).rows}
    with torch.no_grad():
        added = [m.embedding(*vars(learnt().table(nas())).values()).numpy() for m in learnt().models()]
    assert features["expansion"] == pytest.approx(np.mean(added, axis=0)[:, 1].mean(), rel=1e-3)
    values = [(row[0], row[1]) for row in value_table(learnt()).rows]
    assert next(v for f, v in values if f == "expansion") == "6"
    hops = hop_table(learnt()).rows
    assert [row[0] for row in hops] == list("01234")
    assert float(str(hops[2][1])) == pytest.approx(np.mean([f.hop_means[2] for f in learnt().folds]), rel=1e-3)
    units = unit_table(learnt(), nas()).rows
    y = nas().metrics["accuracy"]
    short = [y[i] for i, w in enumerate(nas().which) if nas().topologies[w].units[0].hops == 1]
    assert units[0][:3] == ("unit 1", "1", str(len(short)))
    assert float(str(units[0][3])) == pytest.approx(np.mean(short), rel=1e-3)


def test_hops_that_some_graph_has_no_unit_of_average_all_nodes() -> None:
    """Of units of two and of three blocks, hop 1 is not in all graphs; where it is, the last nodes are averaged."""
    graphs = [
        {"nodes": [{"op": "a", "unit": "u"}] * n, "edges": [[i, i + 1] for i in range(n - 1)], "metrics": {}}
        for n in (2, 3)
    ]
    both, alone = GraphSet.of(graphs), GraphSet.of(graphs[:1])
    assert [part.tolist() for part in both.layout([0, 1], 1).pools[1]] == [[0, 1, 2, 3, 4], [0, 0, 1, 1, 1], [2, 3]]
    assert [part.tolist() for part in alone.layout([0], 1).pools[1]] == [[1], [0], [1]]
