"""Embeddings on the table of rows are those on every node; FE-MLP's scalars add up to the score."""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from q2.search.predictor.features import CountedBatchNorm, FeatureMLP, NodeEmbedding

FIELDS = {"method": ("uaq", "kmeans-c"), "role": ("to_q", "to_k", "to_v")}


def test_counted_batch_norm_is_batch_norm_of_repeated_rows() -> None:
    torch.manual_seed(0)
    plain, counted = nn.BatchNorm1d(4), CountedBatchNorm(4)
    x, counts = torch.randn(5, 4), torch.tensor([3, 1, 0, 2, 7])
    expected = plain(x.repeat_interleave(counts, dim=0))
    found = counted(x, counts.float())
    torch.testing.assert_close(found.repeat_interleave(counts, dim=0), expected, rtol=1e-5, atol=1e-5)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(counted, name), getattr(plain, name))
    torch.testing.assert_close(counted.eval()(x, counts.float()), plain.eval()(x))


def test_widths_are_the_papers() -> None:
    embedding = NodeEmbedding(
        {**FIELDS, "bits": ("3", "4"), "stage": ("a",), "block": ("0",), "transformer": ("0",)}, 2
    )
    assert [len(cast(Tensor, table.weight)[0]) for table in embedding.fields] == [5, 10, 5, 10, 10, 10]
    assert embedding.linears[0].in_features == 5 + 10 + 5 + 3 * 10 + 2 * 5
    assert [linear.out_features for linear in embedding.linears] == [64, 16]


def test_feature_importance_is_what_the_scalars_are() -> None:
    torch.manual_seed(0)
    mlp = FeatureMLP(FIELDS, 1)
    codes, values = torch.tensor([[0, 2], [1, 0]]), torch.tensor([[0.0], [1.0]])
    out = mlp(codes, values)
    assert bool((out >= 0).all())
    read = mlp.values()
    expected = [[read[0][0], read[1][2], read[2][1]], [read[0][1], read[1][0], read[2][2]]]
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-5)
