"""Attention is found in a graph, fused or written out, with the module that computes it."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from q2.graph import trace
from q2.graph.attention import labels_of
from tests.graph.tiny import FAMILIES


class Written(nn.Module):
    """Two heads' attention, with a gate whose softmax reads no product and one that only weighs."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 4)

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        gated = self.gate(q).softmax(-1) * q
        weights = F.softmax((gated @ k.transpose(-1, -2)) * 0.5, -1)
        return torch.softmax(self.gate(q), -1) @ k.transpose(-1, -2) + (weights @ k).sum(-1, keepdim=True)


def test_softmax_between_products_is_attention_and_gates_are_none() -> None:
    graph = trace(Written(), {"q": torch.randn(1, 5, 4), "k": torch.randn(1, 5, 4)})
    whole, partial = graph.attentions
    assert (len(whole.scores), len(whole.values), whole.is_fused) == (1, 1, False)
    assert (len(partial.scores), len(partial.values)) == (0, 1)
    assert labels_of(whole.scores[0]) == ({0: "ik", 1: "kj"}, "ij")


@pytest.mark.parametrize(("name", "count"), [("dit", 2), ("pixart-alpha", 4), ("hunyuan", 8), ("sdxl", 22)])
def test_attention_of_the_families_is_fused_and_named_by_its_module(name: str, count: int) -> None:
    graph = trace(FAMILIES[name].build(), FAMILIES[name].example())
    assert len(graph.attentions) == count
    for each in graph.attentions:
        assert each.is_fused
        assert hasattr(graph.model.get_submodule(each.name), "to_q")
