"""The network: embeddings of node features, four GATv2 layers, an average at every hop, and a head."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from q2.search.predictor.attention import Attention, Messages
from q2.search.predictor.dataset import Floats, GraphSet, Layout
from q2.search.predictor.features import FeatureMLP, NodeEmbedding

if TYPE_CHECKING:
    from q2.search.predictor.space import NodeSpace

__all__ = ["LAYERS", "HopNetwork", "Scale", "Table"]

LAYERS = 4
_WIDTH = 64
_HEAD = (64, 32, 16, 8)


@dataclass(frozen=True, eq=False)
class Scale:
    """Mean and deviation of every numeric feature over a table's rows."""

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, graphs: GraphSet) -> Scale:
        """Measure a graph set's numbers; a constant one has deviation 1."""
        deviation = graphs.values.std(axis=0)
        return cls(graphs.values.mean(axis=0), np.where(deviation > 0, deviation, 1.0))


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of features as tensors; the numbers are standardized."""

    codes: Tensor
    values: Tensor

    def to(self, device: torch.device) -> Table:
        """Return the table on a device."""
        return Table(self.codes.to(device), self.values.to(device))

    @classmethod
    def of(cls, features: GraphSet | NodeSpace, scale: Scale) -> Table:
        """Return the table of a graph set or space, its numbers brought to a scale."""
        values = (features.values - scale.mean) / scale.deviation
        return cls(torch.from_numpy(features.codes), torch.from_numpy(values.astype(np.float32)))


class HopNetwork(nn.Module):
    """NodeEmbedding, 4 × (GATv2Conv, batch norm, ReLU; residual from the second on), and a head of five linear layers.

    Source: Qua²SeDiMo (AAAI'25), Sec. 4. The head reads the averages of all `hops`, not of the last alone: those of one
    hop do not see every layer (in DiT no feed-forward lies within four hops of an attention's end). `attention` says
    which code passes messages; weights and values are the same.
    """

    def __init__(
        self, embedding: NodeEmbedding | FeatureMLP, hops: tuple[int, ...], attention: Attention = "auto"
    ) -> None:
        super().__init__()
        from torch_geometric.nn import GATv2Conv

        self.embedding, self.hops, self.attention = embedding, tuple(sorted({*hops, LAYERS})), attention
        self.convs = nn.ModuleList(GATv2Conv(embedding.width if i == 0 else _WIDTH, _WIDTH) for i in range(LAYERS))
        self.norms = nn.ModuleList(nn.BatchNorm1d(_WIDTH) for _ in range(LAYERS))
        sizes = (sum(_WIDTH if hop else embedding.width for hop in self.hops), *_HEAD, 1)
        linears = [nn.Linear(a, b) for a, b in pairwise(sizes)]
        norm = nn.BatchNorm1d(sizes[0])  # averages over hundreds of nodes hardly differ between graphs
        self.head = nn.Sequential(norm, *(m for linear in linears for m in (linear, nn.ReLU())))[:-1]

    def start_at_zero(self) -> None:
        """Let the head predict 0 of every graph until it has learnt better."""
        *_, last = self.head.children()
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def nodes(self, table: Table, layout: Layout) -> list[Tensor]:
        """Return embeddings at every hop: of the table's rows (R, ·) at 0, then of all nodes (copies · nodes, 64)."""
        counts = torch.from_numpy(np.bincount(layout.rows, minlength=len(table.codes))).float()
        x = self.embedding(table.codes, table.values, counts.to(table.values.device))
        messages = Messages(layout.edges, layout.nodes, self.attention)
        rows = layout.rows.reshape(layout.copies, layout.nodes)
        found = [x]
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            out = torch.relu(norm(messages.through(conv, x, rows)))
            x = x + out if i else out
            rows = np.arange(layout.rows.size).reshape(rows.shape)
            found.append(x)
        return found

    def pooled(self, table: Table, layout: Layout) -> list[Tensor]:
        """Return the average at every hop, of shape (graphs, width of the hop)."""
        averages = []
        for hop, (x, pool) in enumerate(zip(self.nodes(table, layout), layout.pools, strict=True)):
            nodes, graphs, sizes = pool
            picked = x[torch.from_numpy(nodes if hop else layout.rows[nodes]).to(x.device)]
            total = x.new_zeros(len(sizes), x.shape[1]).index_add(0, torch.from_numpy(graphs).to(x.device), picked)
            averages.append(total / torch.from_numpy(sizes).float().to(x.device)[:, None])
        return averages

    def forward(self, table: Table, layout: Layout) -> tuple[Tensor, Tensor]:
        """Return the prediction (graphs,) and the score at every hop (graphs, 5): the L1 norm of its average."""
        averages = self.pooled(table, layout)
        prediction = self.head(torch.cat([averages[hop] for hop in self.hops], dim=1))[:, 0]
        return prediction, torch.stack([average.abs().sum(1) for average in averages], dim=1)
