"""The flow graph: its counts at full size, its splits, and the proof that its edges are those of the eager model."""

from typing import Any

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from q2.graph import trace
from tests.graph.full import full_size
from tests.graph.influence import drawn, measured
from tests.graph.others import OTHERS
from tests.graph.tiny import FAMILIES

COUNTS = {  # weight nodes, combine nodes, edges, split layers
    "dit": (255, 169, 620, 0),
    "pixart-alpha": (287, 253, 846, 0),
    "pixart-sigma": (287, 253, 846, 0),
    "hunyuan": (487, 341, 1165, 19),
    "sdxl": (812, 536, 1759, 18),
    "sdv15": (306, 172, 640, 24),
}
SDXL_UP = {  # ResBlock: channels of the stream and of its skip
    (0, 0): (1280, 1280), (0, 1): (1280, 1280), (0, 2): (1280, 640),
    (1, 0): (1280, 640), (1, 1): (640, 640), (1, 2): (640, 320),
    (2, 0): (640, 320), (2, 1): (320, 320), (2, 2): (320, 320),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_counts_at_full_size(name: str) -> None:
    flow = full_size(name).flow()
    kinds = [data["kind"] for _, data in flow.nodes(data=True)]
    splits = sum(data.get("part") == 1 for _, data in flow.nodes(data=True))
    assert (kinds.count("weight"), kinds.count("combine"), flow.size(), splits) == COUNTS[name]
    assert {data["layer"] for _, data in flow.nodes(data=True) if "layer" in data} == set(full_size(name).weight_layers)
    assert nx.is_frozen(flow)


def test_split_points_are_those_of_the_concat() -> None:
    flow = full_size("sdxl").flow()
    for (block, resnet), (stream, skip) in SDXL_UP.items():
        for layer in ("conv1", "conv_shortcut"):
            path = f"up_blocks.{block}.resnets.{resnet}.{layer}"
            assert flow.nodes[path]["channels"] == (0, stream)
            assert flow.nodes[f"{path}#1"]["channels"] == (stream, stream + skip)
    assert set(flow.predecessors("up_blocks.2.resnets.2.conv1#1")) == {"conv_in"}
    hunyuan = full_size("hunyuan").flow()
    assert hunyuan.nodes["blocks.39.skip_linear#1"]["channels"] == (1408, 2816)
    assert set(hunyuan.predecessors("blocks.39.skip_linear#1")) == {"blocks.0.add_2"}


def test_nodes_say_where_they_are() -> None:
    node = full_size("sdxl").flow().nodes["down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k"]
    keys = ("kind", "layer", "part", "stage", "block", "transformer", "role")
    assert {key: node[key] for key in keys} == {
        "kind": "weight",
        "layer": "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k",
        "part": 0,
        "stage": "down_blocks",
        "block": 1,
        "transformer": 2,
        "role": "attn2.to_k",
    }
    combine = full_size("dit").flow().nodes["transformer_blocks.3.attn1.mul_vsm"]
    assert (combine["kind"], combine["op"], combine["block"]) == ("combine", "mul_vsm", 3)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])
def test_edges_are_those_that_a_disturbed_layer_shows(name: str) -> None:
    """Freeze all outputs, disturb one layer, see whose inputs change: nothing missing, nothing extra."""
    if name in OTHERS:
        torch.manual_seed(0)
        model, inputs = OTHERS[name]()
        model.eval().requires_grad_(False)
    else:
        size = 16 if name == "sdv15" else None  # at 8 its middle has one token, whose attention is a constant
        model, inputs = FAMILIES[name].build(), FAMILIES[name].example(batch=2, size=size)
    torch.manual_seed(0)  # whatever ran before: a softmax that saturates would hide an edge
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)  # no layer starts at zero, where it would hide others
    model.double()
    graph = trace(model, doubled(inputs))
    expected = measured(model, doubled(inputs), list(graph.weight_layers))
    found = drawn(graph.flow())
    assert expected - found == set()
    assert found - expected == set()


def doubled(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        key: doubled(value) if isinstance(value, dict) else value.double() if is_float(value) else value
        for key, value in inputs.items()
    }


def is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


class Written(nn.Module):
    """Attention written out, a tied layer, a recurrent one, a joint sequence taken apart."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out, self.twice, self.end = (nn.Linear(4, 4) for _ in range(6))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = self.twice(x), self.q(self.twice(y))
        scores = self.k(x) @ y.transpose(1, 2) / 2
        mixed = F.softmax(scores, dim=-1) @ self.v(y)
        joint = F.layer_norm(torch.cat([mixed, self.out(y)], dim=1), (4,))
        first, _ = joint.split([x.shape[1], y.shape[1]], dim=1)
        return self.end(first)  # type: ignore[no-any-return]


def test_attention_written_out_and_joins_taken_apart() -> None:
    flow = trace(Written(), {"x": torch.randn(1, 2, 4), "y": torch.randn(1, 3, 4)}).flow()
    assert set(flow.edges) == {
        ("twice", "q"),
        ("twice", "k"),
        ("q", "v"),
        ("q", "out"),
        ("k", "mul_qk"),
        ("q", "mul_qk"),
        ("mul_qk", "mul_vsm"),
        ("v", "mul_vsm"),
        ("mul_vsm", "end"),
    }


class Modulated(nn.Module):
    """An adaptive norm, and a gate on the way back to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.scale, self.gate, self.stream, self.body = (nn.Linear(4, 4) for _ in range(5))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x = self.stream(x)
        normed = F.layer_norm(x, (4,)) * (1 + self.scale(t)[:, None]) + self.shift(t)[:, None]
        return x + self.gate(t)[:, None] * self.body(normed)  # type: ignore[no-any-return]


def test_an_adaptive_norm_and_a_gated_sum_are_one_combine_each() -> None:
    flow = trace(Modulated(), {"x": torch.randn(2, 3, 4), "t": torch.randn(2, 4)}).flow()
    combines = {name for name, data in flow.nodes(data=True) if data["kind"] == "combine"}
    assert combines == {"adaln", "add"}
    assert set(flow.predecessors("adaln")) == {"stream", "scale", "shift"}
    assert set(flow.predecessors("add")) == {"stream", "gate", "body"}
    assert flow["scale"]["adaln"]["mod"]
    assert not flow["stream"]["adaln"]["mod"]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.cell(self.head(self.cell(x)).tanh())  # type: ignore[no-any-return]


def test_a_layer_called_twice_is_one_node_in_a_cycle() -> None:
    graph = trace(Recurrent(), {"x": torch.randn(2, 4)})
    assert set(graph.flow().edges) == {("cell", "head"), ("head", "cell")}
    assert {layer for unit in graph.units() for layer in unit.layers} == {"cell", "head"}
