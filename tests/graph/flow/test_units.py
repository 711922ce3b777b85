"""Units: a partition of the weight layers whose pieces are what people call them."""

import pytest
import torch
from torch import nn

from q2.errors import ConfigError
from q2.graph import trace
from tests.graph.full import full_size
from tests.graph.tiny import FAMILIES

UNITS = {"dit": 85, "pixart-alpha": 116, "pixart-sigma": 116, "hunyuan": 182, "sdxl": 243, "sdv15": 93}


@pytest.mark.parametrize("name", FAMILIES)
def test_units_partition_the_weight_layers(name: str) -> None:
    flow, units = full_size(name).flow(), full_size(name).units()
    layers = [layer for unit in units for layer in unit.layers]
    assert len(units) == len({unit.name for unit in units}) == UNITS[name]
    assert sorted(layers) == sorted(node for node, data in flow.nodes(data=True) if data["kind"] == "weight")
    for unit in units:
        assert set(unit.layers) | {unit.last} <= set(unit.nodes)
        inner = {node for node in unit.nodes if flow.nodes[node]["kind"] == "weight"}
        assert inner == set(unit.layers), f"{unit.name} reaches into another unit"


def test_units_of_dit_are_attentions_and_feed_forwards() -> None:
    units = {unit.name: unit for unit in full_size("dit").units()}
    third = units["transformer_blocks.3.attn1"]
    block = "transformer_blocks.3."
    assert set(third.layers) == {
        block + layer for layer in ("norm1.linear", "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
    }
    assert (third.last, third.hops) == (block + "attn1.to_out.0", 4)
    assert units["transformer_blocks.3.ff"].hops == 1
    assert "pos_embed.proj" in units["transformer_blocks.0.attn1"].layers


def test_copies_of_an_embedder_are_one_unit() -> None:
    model = FAMILIES["dit"].build()
    first, second = (model.get_submodule(f"transformer_blocks.{i}.norm1.emb.timestep_embedder") for i in (0, 1))
    second.load_state_dict(first.state_dict())
    graph = trace(model, FAMILIES["dit"].example())
    assert graph.ties() == [
        tuple(f"transformer_blocks.{i}.norm1.emb.timestep_embedder.linear_{j}" for i in (0, 1)) for j in (1, 2)
    ]
    assert len(graph.units(ties=False)) - len(graph.units()) == 1
    assert len(next(unit for unit in graph.units() if "timestep_embedder" in unit.name).layers) == 4


def test_ties_of_the_published_dit_leave_58_units() -> None:
    graph = full_size("dit")
    paths = [f"transformer_blocks.{i}.norm1.emb.timestep_embedder.linear_" for i in range(28)]
    graph_ties = [[path + end for path in paths] for end in "12"]
    from q2.graph.flow.units import find_units

    assert len(find_units(graph.flow(), graph.model, ties=graph_ties)) == 58


def test_layers_without_data_have_no_ties() -> None:
    assert full_size("dit").ties() == []


def test_patterns_override_the_rule() -> None:
    graph = full_size("pixart-alpha")
    units = {unit.name: unit for unit in graph.units({r"transformer_blocks\.(\d+)\.(?:attn2|ff)": r"tail.\1"})}
    assert len(units) == UNITS["pixart-alpha"] - 56  # attn2, its keys and values, and ff become one
    assert len(units["tail.5"].layers) == 6
    with pytest.raises(ConfigError, match="no layer matches 'nowhere'"):
        graph.units({"nowhere": "x"})
    with pytest.raises(ConfigError, match=r"'\(attn' → 'x'"):
        graph.units({"(attn": "x"})


def test_a_plain_stack_has_a_unit_for_every_layer() -> None:
    graph = trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), {"input": torch.zeros(1, 4)})
    assert [(unit.name, unit.layers, unit.hops) for unit in graph.units()] == [("0", ("0",), 0), ("2", ("2",), 0)]
