"""Ranking losses and metrics: soft Spearman correlation, LambdaRank, SRCC, NDCG@k, relevance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from q2.search.predictor.dataset import Floats

__all__ = [
    "LossName",
    "lambdarank",
    "ndcg",
    "pav_soft_rank",
    "ranking_loss",
    "relevance",
    "soft_rank",
    "soft_srcc",
    "srcc",
]

LossName = Literal["srcc", "ndcg", "hybrid"]
_MOST_RELEVANT = 50.0


def soft_rank(scores: Tensor) -> Tensor:
    """Return differentiable ascending ranks 1…n of every row of `scores` (rows, n), float32 on any device.

    Blondel et al., Fast Differentiable Sorting and Ranking (ICML 2020): the l2 projection at strength 1. torchsort's
    kernels, where they could be built; else `pav_soft_rank`, which gives the same.
    """
    try:
        import torchsort
    except ImportError:
        return pav_soft_rank(scores)
    ranks = torchsort.soft_rank(scores.cpu(), regularization="l2", regularization_strength=1.0)
    return cast(Tensor, ranks).to(scores.device)


def pav_soft_rank(scores: Tensor) -> Tensor:
    """Return `soft_rank` of `scores` (rows, n), by isotonic regression in its min-max form: O(n²), not O(n log n).

    >>> pav_soft_rank(torch.tensor([[0.0, 9.0, 4.0], [0.0, 0.1, 0.2]]))
    tensor([[1.0000, 3.0000, 2.0000],
            [1.9000, 2.0000, 2.1000]])
    """
    count = scores.shape[1]
    ordered, order = scores.double().sort(dim=1)
    ranks = torch.arange(1, count + 1, dtype=torch.float64, device=scores.device)
    sums = torch.nn.functional.pad((ordered - ranks).cumsum(1), (1, 0))
    index = torch.arange(count, device=scores.device)
    lengths = (index[None, :] - index[:, None] + 1).clamp(min=1)
    means = (sums[:, None, 1:] - sums[:, :-1, None]) / lengths  # [row, first, last] of every run
    means = means.masked_fill(index[:, None] > index[None, :], torch.inf)
    least = means.flip(2).cummin(2).values.flip(2)  # over where the run ends, at or after the column
    least = least.masked_fill(index[:, None] > index[None, :], -torch.inf)
    fitted = least.max(1).values  # over where it starts, at or before it
    return torch.empty_like(ordered).scatter(1, order, ordered - fitted).to(scores.dtype)


def soft_srcc(scores: Tensor, y: Tensor) -> Tensor:
    """Return the correlation of `y` (n,) with the soft ranks of every row of `scores` (rows, n); 0 for constants."""
    ranks = soft_rank(scores) / scores.shape[1]
    ranks, centred = ranks - ranks.mean(1, keepdim=True), y - y.mean()
    norm = (ranks.square().sum(1) * centred.square().sum()).clamp(min=1e-12).sqrt()
    return (ranks @ centred) / norm


def lambdarank(scores: Tensor, grades: Tensor) -> Tensor:
    """Return LambdaRank as a loss, for every row of `scores` (rows, n): Σ |ΔNDCG| · log(1 + exp(s_low - s_high)).

    ΔNDCG is the change that swapping a pair brings, with gains 2^relevance - 1 and ranks from the scores themselves
    (Burges, From RankNet to LambdaRank to LambdaMART, 2010). `grades` (n,) are the relevances. Divided by n.
    """
    gains = torch.exp2(grades.double()) - 1
    places = torch.arange(len(grades), device=scores.device)
    discounts = 1 / torch.log2(places + 2.0).double()
    ideal = gains.sort(descending=True).values @ discounts
    if ideal <= 0:
        return scores.sum(1) * 0
    order = scores.detach().argsort(dim=1, descending=True)
    discount = torch.empty_like(scores, dtype=torch.float64).scatter_(1, order, discounts.expand(len(scores), -1))
    gap = gains[:, None] - gains[None, :]
    swap = gap.clamp(min=0) / ideal * (discount[:, :, None] - discount[:, None, :]).abs()
    pairs = torch.nn.functional.softplus(scores[:, None, :] - scores[:, :, None])
    return (swap.to(scores.dtype) * pairs).sum((1, 2)) / len(grades)


def ranking_loss(
    loss: LossName, prediction: Tensor, scores: Tensor, y: Tensor, grades: Tensor, *, weight: float
) -> Tensor:
    """Return MSE + `weight` · the ranking terms, each the mean over hops; all inputs (n,) but `scores` (n, hops).

    ``srcc``: 1 - soft SRCC. ``ndcg``: LambdaRank. ``hybrid``: both (Qua²SeDiMo, Sec. 4, whose LambdaRank never
    reached the weights).
    """
    total = torch.nn.functional.mse_loss(prediction, y)
    rows = scores.T.contiguous()
    if loss in ("srcc", "hybrid"):
        total = total + weight * (1 - soft_srcc(rows, y)).mean()
    if loss in ("ndcg", "hybrid"):
        total = total + weight * lambdarank(rows, grades).mean()
    return total


def relevance(y: Floats, training: Floats) -> Floats:
    """Return clip((y - q20) / (max - q20), 0, 1) · 50 in the shape of `y`; q20 and max are those of `training`.

    >>> relevance(np.array([0.0, 6.0, 10.0]), np.arange(11.0))
    array([ 0., 25., 50.])
    """
    low, high = float(np.quantile(training, 0.2)), float(np.max(training))
    return np.asarray(np.clip((y - low) / (high - low or 1.0), 0, 1) * _MOST_RELEVANT)


def srcc(y: Floats | Sequence[float], scores: Floats | Sequence[float]) -> float:
    """Return Spearman's rank correlation of `y` (n,) and `scores` (n,), ties at their mean rank; 0 if one is constant.

    NaN if a value is NaN or infinite.

    >>> srcc([1, 2, 3, 4], [10, 30, 20, 40])
    0.8
    """
    if not (np.isfinite(y).all() and np.isfinite(scores).all()):
        return float("nan")
    a, b = _centred_ranks(y), _centred_ranks(scores)
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return round(float(a @ b) / norm, 12) if norm > 0 else 0.0


def _centred_ranks(values: Floats | Sequence[float]) -> Floats:
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[groups]
    return np.asarray(ranks - ranks.mean())


def ndcg(grades: Floats, scores: Floats, k: int = 10) -> float:
    """Return NDCG@k of `grades` (n,) ranked by `scores` (n,), with gains 2^grade - 1; 0 without any gain.

    Equal scores share the mean gain of their ranks. NaN if a grade or a score is NaN or infinite.

    >>> ndcg(np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.2, 0.3]))
    1.0
    """
    if not (np.isfinite(grades).all() and np.isfinite(scores).all()):
        return float("nan")
    gains = np.exp2(grades) - 1
    discounts = np.where(np.arange(len(gains)) < k, 1 / np.log2(np.arange(len(gains)) + 2.0), 0)
    ideal = float(np.sort(gains)[::-1] @ discounts)
    _, groups, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    mean = np.bincount(groups, weights=gains) / counts
    return float(np.repeat(mean, counts) @ discounts) / ideal if ideal > 0 else 0.0
