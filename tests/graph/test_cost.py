"""What a graph costs outside its weight layers, by kind, fused or written out."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from q2.graph import trace
from q2.graph.cost import NORM, SCORES, SOFTMAX, VALUES
from tests.graph.full import full_size
from tests.graph.tiny import FAMILIES

BATCH, HEADS, QUERIES, KEYS, WIDTH, OUT = 2, 3, 5, 7, 4, 6


class Attention(nn.Module):
    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)
        scores = (q @ k.transpose(-1, -2)) * WIDTH**-0.5
        return torch.matmul(F.dropout(F.softmax(scores + 1, dim=-1), 0.0), v)


@pytest.mark.parametrize("fused", [True, False])
def test_attention_costs_the_same_fused_or_written_out(fused: bool) -> None:
    inputs = {
        "q": torch.randn(BATCH, HEADS, QUERIES, WIDTH),
        "k": torch.randn(BATCH, HEADS, KEYS, WIDTH),
        "v": torch.randn(BATCH, HEADS, KEYS, OUT),
    }
    costs = trace(Attention(fused), inputs).costs()
    scores = BATCH * HEADS * QUERIES * KEYS
    assert {kind: macs for kind, macs in costs.items() if macs} == {
        SCORES: scores * WIDTH,
        VALUES: scores * OUT,
        SOFTMAX: scores,
    }


class Norms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.group, self.plain = nn.GroupNorm(2, 4), nn.LayerNorm(6, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.plain(self.group(x))
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def test_a_norm_costs_one_an_element_and_one_for_its_weight() -> None:
    costs = trace(Norms(), {"x": torch.randn(3, 4, 6)}).costs()
    assert costs[NORM] == (2 + 1 + 1) * 3 * 4 * 6


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_of_the_six_is_scores_and_values_and_nothing_else(name: str) -> None:
    graph = full_size(name)
    costs = graph.costs()
    assert costs[SCORES] + costs[VALUES] == graph.attention_macs > 0
    assert costs[NORM] > 0
