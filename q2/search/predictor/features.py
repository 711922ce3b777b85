"""Embeddings of node features: computed once for every row of the table, not for every node of every graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["CountedBatchNorm", "FeatureMLP", "NodeEmbedding"]

_CHOICE_WIDTH, _PLACE_WIDTH = 5, 10
_CHOICE_FIELDS = ("method", "bits")


class CountedBatchNorm(nn.BatchNorm1d):
    """Batch norm of table rows, each as often as `counts` says: as if every row were repeated so many times."""

    def forward(self, x: Tensor, counts: Tensor | None = None) -> Tensor:
        """Normalize `x` (R, features); `counts` (R,) matter while training."""
        if not self.training or counts is None:
            return super().forward(x)
        total = counts.sum()
        share = counts / total
        mean = share @ x
        centred = x - mean
        variance = share @ centred.square()
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        return centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class NodeEmbedding(nn.Module):
    """Embed categorical fields and numbers, then BN-ReLU-Linear(64)-BN-ReLU-Linear(16)-BN-ReLU.

    Source: Qua²SeDiMo (AAAI'25), node features: width 5 for method, bits and each number, 10 for each position.
    """

    def __init__(self, fields: Mapping[str, Sequence[str]], numbers: int, hidden: int = 64, width: int = 16) -> None:
        super().__init__()
        widths = [_CHOICE_WIDTH if name in _CHOICE_FIELDS else _PLACE_WIDTH for name in fields]
        self.fields = nn.ModuleList(
            nn.Embedding(len(values), size) for values, size in zip(fields.values(), widths, strict=True)
        )
        self.numbers = nn.ModuleList(nn.Linear(1, _CHOICE_WIDTH) for _ in range(numbers))
        sizes = (sum(widths) + _CHOICE_WIDTH * numbers, hidden, width)
        self.norms = nn.ModuleList(CountedBatchNorm(size) for size in sizes)
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.width = width

    def forward(self, codes: Tensor, values: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return non-negative embeddings (R, width) of rows with `codes` (R, fields) and `values` (R, numbers)."""
        parts = [table(column) for table, column in zip(self.fields, codes.T, strict=True)]
        parts += [linear(column[:, None]) for linear, column in zip(self.numbers, values.T, strict=True)]
        x = torch.relu(self.norms[0](torch.cat(parts, dim=1), counts))
        for linear, norm in zip(self.linears, self.norms[1:], strict=True):
            x = torch.relu(norm(linear(x), counts))
        return x


class FeatureMLP(nn.Module):
    """One non-negative scalar for every feature, by an embedding and an MLP of its own, so that it can be read off.

    Source: AutoBuild (CVPR'24), FE-MLP.
    """

    def __init__(self, fields: Mapping[str, Sequence[str]], numbers: int, hidden: int = 32) -> None:
        super().__init__()
        self.fields = nn.ModuleList(
            nn.Sequential(nn.Embedding(len(values), hidden), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))
            for values in fields.values()
        )
        self.numbers = nn.ModuleList(
            nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, 1)) for _ in range(numbers)
        )
        self.width = len(fields) + numbers
        self._names = list(fields.values())

    def forward(self, codes: Tensor, values: Tensor, counts: Tensor | None = None) -> Tensor:
        """Return one non-negative scalar a feature (R, fields + numbers); `counts` play no part."""
        parts = [mlp(column) for mlp, column in zip(self.fields, codes.T, strict=True)]
        parts += [mlp(column[:, None]) for mlp, column in zip(self.numbers, values.T, strict=True)]
        return torch.cat(parts, dim=1).abs()

    def values(self) -> list[list[float]]:
        """Return the scalars of every field's values, then of every number at -1, 0 and 1."""
        points = torch.tensor([[-1.0], [0.0], [1.0]])
        with torch.no_grad():
            found = [mlp(torch.arange(len(values))) for mlp, values in zip(self.fields, self._names, strict=True)]
            found += [mlp(points) for mlp in self.numbers]
        return [scalars[:, 0].abs().tolist() for scalars in found]
