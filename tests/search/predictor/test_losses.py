"""Losses and rank metrics: torchsort's soft rank is ours, NDCG is scikit-learn's, LambdaRank pushes the right way."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from q2.search.predictor.losses import (
    lambdarank,
    ndcg,
    pav_soft_rank,
    ranking_loss,
    relevance,
    soft_rank,
    soft_srcc,
    srcc,
)

SCALES = [0.01, 1.0, 30.0]


@pytest.mark.parametrize("scale", SCALES)
def test_the_fallback_is_torchsort(scale: float) -> None:
    torchsort = pytest.importorskip("torchsort")
    x = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)) * scale
    left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
    theirs = torchsort.soft_rank(left, regularization="l2", regularization_strength=1.0)
    ours = pav_soft_rank(right)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    (theirs * weight).sum().backward()
    (ours * weight).sum().backward()
    torch.testing.assert_close(right.grad, left.grad, rtol=0, atol=1e-4)


@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12))
def test_soft_ranks_are_ordered_and_sum_as_ranks_do(values: list[float]) -> None:
    scores = torch.tensor([values])
    ranks = soft_rank(scores)[0]
    assert float(ranks.sum()) == pytest.approx(len(values) * (len(values) + 1) / 2, abs=1e-3)
    order = scores[0].argsort()
    assert bool((ranks[order].diff() >= -1e-4).all())


def test_far_apart_soft_ranks_are_the_ranks() -> None:
    assert soft_rank(torch.tensor([[30.0, -5.0, 9.0, 100.0]])).tolist() == [[3, 1, 2, 4]]


def test_soft_srcc_sees_order_and_constants() -> None:
    y = torch.arange(6.0)
    rows = torch.stack([10 * y, -10 * y, torch.zeros(6)])
    assert soft_srcc(rows, y).tolist() == pytest.approx([1, -1, 0], abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_ndcg_is_scikit_learns(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    grades, scores = rng.uniform(0, 50, 40), rng.normal(size=40)
    scores = np.round(scores) if ties else scores
    expected = ndcg_score((np.exp2(grades) - 1)[None], scores[None], k=10)
    assert ndcg(grades, scores) == pytest.approx(expected, rel=1e-9)


def test_srcc_is_scipys_and_0_for_a_constant() -> None:
    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(size=30)), rng.normal(size=30)
    assert srcc(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert srcc(a, np.ones(30)) == 0


def test_relevance_is_fitted_on_the_training_part_alone() -> None:
    training = np.linspace(0, 10, 11)
    assert relevance(np.array([-5.0, 2.0, 6.0, 10.0, 99.0]), training).tolist() == [0, 0, 25, 50, 50]
    assert relevance(np.ones(3), np.ones(4)).tolist() == [0, 0, 0]


def test_lambdarank_falls_with_the_order_and_pulls_the_best_up() -> None:
    grades = torch.tensor([0.0, 10.0, 20.0, 50.0])
    good, bad = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0, 0.0], requires_grad=True)
    both = lambdarank(torch.stack([good, bad]), grades)
    assert float(both[0].detach()) < float(both[1].detach())
    both[1].backward()
    assert bad.grad is not None
    assert float(bad.grad[3]) < 0 < float(bad.grad[0])
    assert float(lambdarank(good[None], torch.zeros(4))) == 0


def test_lambdarank_takes_ranks_from_the_scores() -> None:
    """A swap at the top weighs more than the same swap at the bottom, as the scores say where things stand."""
    grades = torch.tensor([3.0, 0.0, 0.0, 0.0])
    top = lambdarank(torch.tensor([[1.0, 2.0, -8.0, -9.0]]), grades)
    low = lambdarank(torch.tensor([[1.0, 2.0, 8.0, 9.0]]), grades)
    discounts = 1 / np.log2(np.arange(4) + 2.0)
    assert float(top) == pytest.approx(
        ((discounts[0] - discounts[1]) * np.log1p(np.e) + (discounts[1] - discounts[2]) * np.log1p(np.exp(-9.0))
         + (discounts[1] - discounts[3]) * np.log1p(np.exp(-10.0))) / 4, rel=1e-5
    )  # fmt: skip
    assert float(low) > float(top)


def test_losses_are_made_of_their_terms() -> None:
    torch.manual_seed(0)
    prediction, scores, y, grades = torch.randn(20), torch.randn(20, 3), torch.randn(20), torch.rand(20) * 5
    losses = {
        name: float(ranking_loss(name, prediction, scores, y, grades, weight=1.0))
        for name in ("srcc", "ndcg", "hybrid")
    }
    mse = float((prediction - y).square().mean())
    assert losses["srcc"] - mse == pytest.approx(float((1 - soft_srcc(scores.T, y)).mean()), rel=1e-4)
    assert losses["ndcg"] - mse == pytest.approx(float(lambdarank(scores.T, grades).mean()), rel=1e-4)
    assert losses["hybrid"] == pytest.approx(losses["srcc"] + losses["ndcg"] - mse, rel=1e-4)
    assert float(ranking_loss("hybrid", prediction, scores, y, grades, weight=0.0)) == pytest.approx(mse)
