"""The pass keeps to q2's suite; the branch is the best of its rank, and what is left quantizes better."""

import copy

import pytest
import torch
from q2_plugin_lowrank.passes import LowRank, LowRankLinear
from torch import Tensor, nn

from q2 import run_passes, trace
from q2.errors import ConfigError, PassError, Q2Error
from q2.graph import Graph
from q2.passes import PassContext
from q2.passes.kinds import PASSES
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins
from q2.quant import parts_of
from q2.quant.packed.layers import pack_layer
from q2.testing import PassSuite, tiny_model


class TestLowRank(PassSuite):
    step = LowRank(rank=2)


def _graph() -> tuple[nn.Sequential, Graph]:
    """Return two layers whose weights have a few large directions, and the graph of them."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 48), nn.SiLU(), nn.Linear(48, 16)).requires_grad_(False)
    for layer in (model[0], model[2]):
        assert isinstance(layer, nn.Linear)
        rows, columns = layer.weight.shape
        big = torch.randn(rows, 2, generator=generator) @ torch.randn(2, columns, generator=generator)
        layer.weight.copy_(0.1 * torch.randn(rows, columns, generator=generator) + big)
    return model, trace(model, {"input": torch.randn(64, 32, generator=generator)})


def _output(graph: Graph) -> Tensor:
    output: Tensor = graph(**graph.example_inputs)
    return output


def test_the_branch_is_the_weights_best_approximation_and_outputs_stay() -> None:
    model, graph = _graph()
    before, weight = _output(graph), graph.model.get_parameter("0.weight").clone()
    change = run_passes(graph, [LowRank(rank=2)])[0].report
    layer = model[0]
    assert isinstance(layer, LowRankLinear)
    left, values, right = torch.linalg.svd(weight)
    assert torch.allclose(layer.up @ layer.down, left[:, :2] * values[:2] @ right[:2], atol=1e-5)
    assert torch.allclose(layer.weight + layer.up @ layer.down, weight, atol=1e-6)
    assert torch.allclose(_output(graph), before, atol=1e-4)
    energy = values.square()
    assert change.data["layers"]["0"] == pytest.approx(float(energy[:2].sum() / energy.sum()))  # type: ignore[index]
    assert change.data["avg_bits"] == 16 * 2 * (32 + 48 + 48 + 16) / (32 * 48 + 48 * 16)


def test_the_residual_is_quantized_and_the_outputs_are_nearer() -> None:
    errors = []
    for passes in ([], [LowRank(rank=2)]):
        model, graph = _graph()
        exact = _output(graph)
        run_passes(graph, [*passes, Quantize(default="uaq-3")])
        assert str(parts_of(model[0])[0].option) == "uaq-3"
        errors.append(float((_output(graph) - exact).square().mean()))
    assert errors[1] < 0.05 * errors[0]


def test_layers_smaller_than_the_branch_stay_and_quantized_ones_are_refused() -> None:
    model, graph = _graph()
    report = run_passes(graph, [LowRank(rank=12)])[0].report
    assert report.summary.startswith("branches of rank 12 in 1 of 2 layers")
    assert type(model[2]) is nn.Linear
    _, graph = _graph()
    with pytest.raises(PassError, match="is quantized already; put 'lowrank' before 'quantize'"):
        run_passes(graph, [Quantize(default="uaq-4"), LowRank()])
    with pytest.raises(ConfigError, match=r"^rank: expected 1 or more, not 0$"):
        LowRank(rank=0).check(graph, PassContext())


def test_it_is_not_saved_without_its_branch() -> None:
    model, graph = _graph()
    run_passes(graph, [LowRank(rank=2), Quantize(default="uaq-4")])
    with pytest.raises(Q2Error, match="has a low-rank branch, which a saved folder or an export cannot keep"):
        pack_layer(model[0])
    assert torch.equal(copy.deepcopy(model)(**graph.example_inputs), _output(graph))


def test_layers_are_chosen_by_name() -> None:
    model = tiny_model()
    graph = trace(model, {"x": torch.zeros(1, 4, 8)})
    change = run_passes(graph, [LowRank(rank=1, layers="*ff*")])[0].report
    assert set(change.data["layers"]) == {"ff.up", "ff.down"}  # type: ignore[call-overload]


def test_q2_finds_it() -> None:
    assert Plugins(["q2_plugin_lowrank"], entry_points=False).of(PASSES).load("lowrank") is LowRank
