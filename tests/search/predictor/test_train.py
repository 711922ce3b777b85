"""Training: folds that learn and never choose by their test part, the same for a seed, saved and read back whole."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from q2.errors import PredictorError, Q2Error
from q2.search.predictor.additive import additive, priors
from q2.search.predictor.dataset import GraphSet
from q2.search.predictor.losses import srcc
from q2.search.predictor.model import LAYERS
from q2.search.predictor.train import Training, folds_of, train_fold
from q2.search.predictor.trained import Trained, train
from tests.search.predictor.spaces import QUICK, graphs, space, trained, trials
from tests.search.predictor.test_dataset import sequences


def test_folds_are_disjoint_and_cover_all() -> None:
    splits = folds_of(103, Training())
    assert sorted(np.concatenate([split.test for split in splits]).tolist()) == list(range(103))
    for split in splits:
        parts = [set(part.tolist()) for part in (split.training, split.validation, split.test)]
        assert len(set.union(*parts)) == 103 == sum(map(len, parts))
        assert len(split.validation) == round(0.125 * (103 - len(split.test)))


def test_it_learns_to_rank_trials_it_has_not_seen() -> None:
    dit = space("dit")
    made = graphs(dit, 200)
    fold = train_fold(made, made.metrics["y"], folds_of(200, QUICK)[0], replace(QUICK, epochs=25, learning_rate=5e-3))
    assert fold.metrics["srcc"] > 0.7
    assert fold.metrics["srcc hop 0"] > 0.5
    assert fold.metrics["mae"] < 0.7 * float(np.abs(made.metrics["y"] - made.metrics["y"].mean()).mean())


def test_the_same_seed_gives_the_same_weights_in_one_process_or_two() -> None:
    made = graphs(space("dit"), 40)
    serial, parallel = train(made, "y", QUICK), train(made, "y", QUICK, jobs=2)
    other = train(made, "y", replace(QUICK, seed=1))
    for a, b, c in zip(serial.folds, parallel.folds, other.folds, strict=True):
        assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
        assert any(not torch.equal(a.weights[name], c.weights[name]) for name in a.weights)


@pytest.mark.parametrize("loss", ["srcc", "ndcg"])
def test_every_ranking_term_reaches_the_weights(loss: str) -> None:
    """Training with the term and without it (λ = 0) ends in other weights, those of the embedding among them."""
    made = graphs(space("dit"), 40)
    split = folds_of(40, QUICK)[0]
    settings = Training(folds=2, epochs=2, loss="ndcg" if loss == "ndcg" else "srcc")
    folds = [train_fold(made, made.metrics["y"], split, replace(settings, rank_weight=w)) for w in (0.0, 1.0)]
    for name in ("embedding.linears.0.weight", "convs.0.att", "convs.3.lin_l.weight"):
        assert not torch.equal(folds[0].weights[name], folds[1].weights[name])


def test_the_test_part_chooses_nothing() -> None:
    """Other targets in the test part change its metrics and nothing else."""
    made = graphs(space("dit"), 40)
    y = made.metrics["y"]
    split = folds_of(40, QUICK)[0]
    changed = y.copy()
    changed[split.test] = np.random.default_rng(0).permutation(y[split.test]) * 3
    a, b = (train_fold(made, target, split, QUICK) for target in (y, changed))
    assert all(torch.equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert a.hop_weights.tolist() == b.hop_weights.tolist()
    assert a.hop_means.tolist() == b.hop_means.tolist()
    assert a.predicted.tolist() == b.predicted.tolist()
    assert a.metrics != b.metrics


def test_hops_without_units_weigh_nothing_and_every_metric_is_there() -> None:
    made = graphs(space("dit"), 40)
    fold = train_fold(made, made.metrics["y"], folds_of(40, QUICK)[0], QUICK)
    hops = made.hops(LAYERS)
    assert [hop for hop in range(5) if fold.hop_weights[hop] > 0] == list(hops)
    assert set(fold.metrics) == {"srcc", "ndcg@10", "mae", "mape"} | {
        f"{name} hop {hop}" for name in ("srcc", "ndcg@10") for hop in hops
    }


def test_training_stops_where_validation_no_longer_improves() -> None:
    made = graphs(space("dit"), 40)
    noise = np.random.default_rng(0).normal(size=40)
    fold = train_fold(made, noise, folds_of(40, QUICK)[0], replace(QUICK, epochs=60, patience=3))
    assert fold.epochs < 60


def test_graphs_of_any_topology_are_learnt() -> None:
    made = GraphSet.of(sequences(120))
    done = train(made, "accuracy", replace(QUICK, epochs=20, learning_rate=1e-2))
    assert done.summary()["srcc"][0] > 0.5
    assert done.hops == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("embedding", ["plain", "fe-mlp"])
def test_a_saved_predictor_predicts_the_same(tmp_path: Path, embedding: str) -> None:
    done, made = trained("dit", embedding), graphs(space("dit"), 20, seed=3)
    done.save(tmp_path)
    again = Trained.load(tmp_path)
    assert again.predict(made)[0].tolist() == done.predict(made)[0].tolist()
    assert again.summary() == done.summary()
    assert (again.training, again.target, again.hops) == (done.training, done.target, done.hops)


def test_networks_add_to_a_prior_and_are_saved_with_it(tmp_path: Path) -> None:
    dit = space("dit")
    chosen, y = trials(dit, 120)
    y = -10 * np.log10(-y)
    settings = replace(QUICK, epochs=8)
    known = priors(dit, additive(dit, chosen, y, settings), chosen, settings)
    done = train(dit.graphs(chosen, {"y": y}), "y", settings, priors=known)
    alone = train(dit.graphs(chosen, {"y": y}), "y", settings)
    new, truth = trials(dit, 200, seed=9)
    truth = -10 * np.log10(-truth)
    made = dit.graphs(new, {})
    assert srcc(truth, done.predict(made)[0]) > max(0.9, srcc(truth, alone.predict(made)[0]))
    for fold, prior, own in zip(done.folds, known, done.each(dit.graphs(chosen, {})), strict=True):
        assert fold.deviation <= float(y.std()) * 1.5
        np.testing.assert_allclose(own[fold.test], fold.predicted, rtol=1e-4)
        np.testing.assert_allclose(prior.of(dit.graphs(chosen[fold.test], {})), prior.offsets[fold.test])
    done.save(tmp_path)
    assert Trained.load(tmp_path).predict(made)[0].tolist() == done.predict(made)[0].tolist()


def test_a_damaged_predictor_is_one_line(tmp_path: Path) -> None:
    trained("dit").save(tmp_path)
    weights, head = tmp_path / "predictor.safetensors", tmp_path / "predictor.json"
    data, text = weights.read_bytes(), head.read_text()
    weights.write_bytes(data[:-1] + b"\0")
    with pytest.raises(PredictorError, match=r"^.*: predictor\.safetensors is damaged, or not the one that predictor"):
        Trained.load(tmp_path)
    weights.write_bytes(data)
    changes: list[dict[str, object]] = [{"folds": [{}]}, {"fields": {}}, {"training": {"epoch": 3}}, {"scale": 3}]
    changes += [{"hops": hops} for hops in ([0.5], [0, 5], [-1], ["0"])]
    count = len(json.loads(text)["numbers"])
    for mean in ([0.0] * (count + 1), [float("nan")] * count):
        changes.append({"scale": {"mean": mean, "deviation": [1.0] * count}})
    for change in changes:
        head.write_text(json.dumps({**json.loads(text), **change}))
        with pytest.raises(PredictorError, match=r"^[^\n]*predictor\.json is damaged: [^\n]*$"):
            Trained.load(tmp_path)
    head.write_text(text[:100])
    with pytest.raises(PredictorError, match="no predictor can be read"):
        Trained.load(tmp_path)
    head.write_text("{}")
    with pytest.raises(PredictorError, match="expected a predictor, version 2"):
        Trained.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_predictor_with_a_weight_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    made = trained("dit")
    weights = {name: tensor.clone() for name, tensor in made.folds[1].weights.items()}
    next(iter(weights.values())).view(-1)[0] = value
    replace(made, folds=(made.folds[0], replace(made.folds[1], weights=weights))).save(tmp_path)
    with pytest.raises(PredictorError, match="damaged: ValueError a weight of fold 1 is NaN or infinite$"):
        Trained.load(tmp_path)


def test_what_cannot_be_trained_on_is_one_line() -> None:
    dit = space("dit")
    chosen, y = trials(dit, 30)
    made = dit.graphs(chosen, {"FID": y, "flat": np.ones(30), "broken": np.where(y > y[0], np.nan, y)})
    with pytest.raises(PredictorError, match="^no metric 'FIDs' in these trials; did you mean 'FID'"):
        train(made, "FIDs", QUICK)
    with pytest.raises(PredictorError, match="^target 'flat' is 1 in all 30 trials: there is nothing to rank$"):
        train(made, "flat", QUICK)
    with pytest.raises(PredictorError, match="^target 'broken': .* of 30 trials are NaN or infinite$"):
        train(made, "broken", QUICK)
    with pytest.raises(PredictorError, match="^4 trials for 5 folds, expected at least 15$"):
        train(dit.graphs(chosen[:4], {"FID": y[:4]}), "FID", Training())
    with pytest.raises(PredictorError, match="^the predictor is for another denoiser: "):
        trained("dit").predict(graphs(space("sdxl"), 4))
    with pytest.raises(PredictorError, match="^loss: expected srcc, ndcg or hybrid, found 'mse'$"):
        Training(loss="mse")  # type: ignore[arg-type]
    with pytest.raises(PredictorError, match="^embedding: expected plain or fe-mlp, found 'big'$"):
        Training(embedding="big")  # type: ignore[arg-type]
    with pytest.raises(PredictorError, match="^training: expected two folds or more"):
        Training(folds=1)


def test_a_predictor_saved_before_there_was_a_choice_of_devices_is_read(tmp_path: Path) -> None:
    trained("dit").save(tmp_path)
    file = tmp_path / "predictor.json"
    head = json.loads(file.read_text(encoding="utf-8"))
    del head["training"]["device"], head["training"]["attention"]
    file.write_text(json.dumps(head), encoding="utf-8")
    made = graphs(space("dit"), 5, seed=3)
    assert Trained.load(tmp_path).predict(made)[0].tolist() == trained("dit").predict(made)[0].tolist()


def test_a_place_that_is_not_here_is_one_line() -> None:
    with pytest.raises(PredictorError, match="^attention: expected auto, fused or pyg, found 'fast'$"):
        replace(QUICK, attention="fast")  # type: ignore[arg-type]
    with pytest.raises(Q2Error, match="^device 'tpu' cannot be used here: "):
        replace(QUICK, device="tpu").place()
    with pytest.raises(PredictorError, match="^attention: 'fused' runs on the CPU, not on meta; expected auto or pyg$"):
        replace(QUICK, device="meta", attention="fused").place()
    assert replace(QUICK, attention="fused").place().type == "cpu"


@pytest.mark.gpu
@pytest.mark.parametrize("embedding", ["plain", "fe-mlp"])
def test_training_on_cuda_learns_what_the_cpu_learns(embedding: str) -> None:
    """The same start and batches: the folds agree, and what CUDA made is read and predicts on the CPU."""
    made = graphs(space("dit"), 60)
    settings = replace(QUICK, embedding="plain" if embedding == "plain" else "fe-mlp", epochs=2)
    cuda, cpu = (train(made, "y", replace(settings, device=name)) for name in ("cuda", "cpu"))
    assert all(tensor.device.type == "cpu" for fold in cuda.folds for tensor in fold.weights.values())
    assert replace(QUICK).place().type == "cuda"
    for a, b in zip(cuda.folds, cpu.folds, strict=True):
        assert np.corrcoef(a.predicted, b.predicted)[0, 1] > 0.99
        np.testing.assert_allclose(a.hop_means, b.hop_means, rtol=0.05)
    assert np.corrcoef(cuda.predict(made)[0], cpu.predict(made)[0])[0, 1] > 0.99
