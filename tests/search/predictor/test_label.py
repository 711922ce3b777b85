"""Labels: every variant's score is that of its own graph, copies count once, what is too large is searched."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from q2.errors import PredictorError
from q2.search.predictor.dataset import Topology
from q2.search.predictor.label import Labels, label, score_variants
from q2.search.predictor.model import LAYERS
from q2.search.predictor.trained import train
from tests.search.predictor.spaces import OPTIONS, QUICK, graphs, space, trained


@pytest.mark.parametrize("name", ["dit", "sdxl"])
def test_all_variants_at_once_are_those_scored_one_by_one(name: str) -> None:
    of, done = space(name), trained(name)
    labels = label(of, done)
    units = of.topology.units
    assert sum(len(unit.variants) for unit in labels.units) == sum(4 ** len(unit.layers) for unit in units)
    rng = np.random.default_rng(0)
    for unit, scores in zip(units, labels.units, strict=True):
        picked = rng.integers(0, len(scores.variants), 20)
        alone = score_variants(of, done, unit, scores.variants[picked])
        np.testing.assert_allclose(scores.scores[picked], alone, rtol=0, atol=1e-4)
    assert {unit.hops for unit in units} >= ({1, 4} if name == "dit" else {1, 2, 3})


def test_a_variant_is_scored_on_its_unit_as_the_whole_model_would() -> None:
    """The same through `Predictor` itself, on a graph set whose topology is the unit's nodes alone."""
    of, done = space("dit"), trained("dit")
    unit = max(of.topology.units, key=lambda unit: unit.hops)
    chosen = np.random.default_rng(0).integers(0, 4, (5, len(of.choices)))
    own = of.choice[list(unit.layers)]
    found = score_variants(of, done, unit, chosen[:, own])
    nodes = list(unit.nodes)
    edges = np.array([[nodes.index(a), nodes.index(b)] for a, b in of.topology.edges.T if a in nodes and b in nodes]).T
    whole = of.graphs(chosen, {})
    rows = of.rows(chosen)[:, nodes]
    alone = type(whole)(
        whole.fields,
        whole.numbers,
        whole.codes,
        whole.values,
        (Topology(tuple(map(str, nodes)), edges, (0,)),),
        whole.which,
        rows.reshape(-1),
        {},
    )
    for i, (model, fold) in enumerate(zip(done.models(), done.folds, strict=True)):
        with torch.no_grad():
            x = model.nodes(done.table(alone), alone.layout(range(5), LAYERS))[unit.hops]
        norms = x.view(5, len(nodes), -1)[:, nodes.index(unit.last)].abs().sum(1).numpy()
        hop = unit.hops
        expected = (norms - fold.hop_means[hop]) / fold.hop_deviations[hop] * fold.hop_weights[hop]
        np.testing.assert_allclose(found[:, i], expected, atol=1e-5)


def test_copies_share_one_choice_of_a_unit() -> None:
    tied = space("dit", tied=True)
    labels = label(tied, train(graphs(tied, 40), "y", QUICK))
    unit = next(unit for unit in labels.units if "timestep_embedder" in unit.name)
    assert len(unit.choices) == 2
    assert unit.variants.tolist() == [list(pair) for pair in itertools.product(range(4), repeat=2)]
    best = unit.variants[unit.scores.sum(1).argmax()]
    assert unit.best == dict(zip(unit.choices, best.tolist(), strict=True))


def test_layers_alone_have_the_norm_of_their_embedding() -> None:
    of, done = space("dit"), trained("dit")
    labels = label(of, done)
    assert labels.nodes.shape == (len(of.choices), len(OPTIONS), 2)
    assert labels.sensitivity().shape == (len(of.choices), 2)
    model, fold, table = next(done.models()), done.folds[0], done.table(of)
    node = of.topology.nodes.index(of.choices[3])
    row = of.first[node] + 2
    with torch.no_grad():
        norm = float(model.embedding(table.codes, table.values)[row].sum())
    expected = (norm - fold.hop_means[0]) / fold.hop_deviations[0] * fold.hop_weights[0]
    assert labels.nodes[3, 2, 0] == pytest.approx(expected, abs=1e-5)


def test_a_unit_too_large_to_enumerate_is_searched_and_says_so() -> None:
    of, done = space("dit"), trained("dit")
    whole, searched = label(of, done), label(of, done, max_variants=100)
    for full, part in zip(whole.units, searched.units, strict=True):
        assert full.complete
        assert part.complete == (len(full.variants) <= 100)
        if not part.complete:
            top = np.sort(full.scores.sum(1))
            assert part.scores.sum(1).max() == pytest.approx(top[-1], abs=1e-4)
            assert len(np.unique(part.variants, axis=0)) == len(part.variants)


def test_a_file_gives_back_the_labels(tmp_path: Path) -> None:
    labels = label(space("dit"), trained("dit"))
    labels.save(tmp_path / "labels.npz")
    again = Labels.load(tmp_path / "labels.npz")
    assert (again.options, again.choices) == (labels.options, labels.choices)
    np.testing.assert_array_equal(again.nodes, labels.nodes)
    for old, new in zip(labels.units, again.units, strict=True):
        assert (new.name, new.kind, new.choices, new.complete) == (old.name, old.kind, old.choices, old.complete)
        np.testing.assert_array_equal(new.variants, old.variants)
        np.testing.assert_allclose(new.scores, old.scores, rtol=1e-6, atol=1e-7)
    np.savez(tmp_path / "labels.npz", head=np.frombuffer(b'{"q2": "labels", "version": 1}', dtype=np.uint8))
    with pytest.raises(PredictorError, match=r"labels\.npz: damaged: KeyError"):
        Labels.load(tmp_path / "labels.npz")


def test_a_predictor_of_another_denoiser_is_one_line() -> None:
    with pytest.raises(PredictorError, match="^the predictor is for another denoiser: its method, bits"):
        label(space("sdxl"), trained("dit"))


def test_labels_are_the_same_through_pytorch_geometric() -> None:
    of, done = space("dit"), trained("dit")
    other = replace(done, training=replace(done.training, attention="pyg"))
    for ours, theirs in zip(label(of, done).units, label(of, other).units, strict=True):
        np.testing.assert_array_equal(ours.variants, theirs.variants)
        np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=1e-4)
