"""Weight layers and multiply-accumulates: the counts people will quote."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from q2.api import run_passes
from q2.graph import trace
from q2.graph.layers import Geometry
from q2.passes.analysis.size import Size
from tests.graph.full import full_size
from tests.graph.tiny import FAMILIES

POOLER = "HunyuanDiT2DModel.time_extra_emb.pooler"  # hands its weights to a functional attention: no weight layers


def counted(model: nn.Module, inputs: dict[str, object], but: str = "") -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(**inputs)
    flops: int = counter.get_total_flops() - sum(counter.get_flop_counts().get(but, {}).values())
    return flops // 2


@pytest.mark.parametrize("name", FAMILIES)
def test_macs_are_half_of_the_flops_that_torch_counts(name: str) -> None:
    family = FAMILIES[name]
    model, inputs = family.build(), family.example(batch=2)
    assert trace(model, inputs).macs == counted(model, inputs, POOLER)


class Products(nn.Module):
    """Every product of activations that is counted, and every kind of weight layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(4, 6, 3, groups=2), nn.Conv2d(2, 4, 3), nn.Conv3d(1, 2, 2, bias=False)])
        self.twice = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.twice(self.twice(self.layers[0](x).transpose(1, 2)))
        scores = torch.bmm(first, first.transpose(1, 2)) + first @ first.mT + first.matmul(first.mT)
        scores = torch.baddbmm(scores, scores, scores) + torch.einsum("b i d, b j d -> b i j", first, first)
        scores = scores + torch.einsum("bij->bji", scores)
        mixed = functional.scaled_dot_product_attention(first, key=first, value=first[..., :4])
        planes = self.layers[1](scores[:, None].expand(-1, 2, -1, -1))
        return self.layers[2](planes[:, None]).sum() + mixed.sum()  # type: ignore[no-any-return]


def test_every_product_counts_once_a_call() -> None:
    model, x = Products(), torch.randn(2, 4, 10)
    graph = trace(model, {"x": x})
    graph.verify()
    assert graph.macs == counted(model, {"x": x})
    twice = graph.weight_layers["twice"]
    assert (twice.calls, twice.macs) == (2, 2 * 2 * 8 * 6 * 6)
    assert [layer.type for layer in graph.weight_layers.values()] == ["Conv1d", "Linear", "Conv2d", "Conv3d"]


def test_a_weight_layer_knows_its_geometry() -> None:
    layer = trace(nn.Conv2d(4, 8, (3, 5), groups=2), {"input": torch.zeros(1, 4, 8, 8)}).weight_layers
    assert not layer  # the root is no submodule
    geometry = Geometry.of(nn.Conv2d(4, 8, (3, 5), groups=2))
    assert geometry == Geometry("Conv2d", (8, 2, 3, 5), 2, True)
    assert Geometry.of(nn.LayerNorm(4)) is None


class OwnLinear(nn.Linear):
    """A subclass from elsewhere, with a forward of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.abs(), self.bias)


def test_a_subclass_is_a_weight_layer_of_the_base_type() -> None:
    graph = trace(nn.Sequential(OwnLinear(4, 2)), {"input": torch.zeros(3, 4)})
    (layer,) = graph.weight_layers.values()
    assert (layer.name, layer.type, layer.shape, layer.weights, layer.macs) == ("0", "Linear", (2, 4), 8, 24)
    assert (layer.in_channels, layer.out_channels, layer.kernel_size, layer.groups, layer.bias) == (4, 2, (), 1, True)


CHOICES = {"dit": 255, "pixart-alpha": 287, "pixart-sigma": 287, "hunyuan": 487, "sdxl": 812, "sdv15": 306}
SIZES = {  # Σ FP bytes of the weight layers, at 16 bits or 32 (Stable Diffusion v1.5)
    "dit": 1_433_972_736,
    "pixart-alpha": 1_220_456_448,
    "pixart-sigma": 1_220_456_448,
    "hunyuan": 2_999_291_904,
    "sdxl": 5_131_760_640,
    "sdv15": 3_436_308_480,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_full_size_gives_the_published_numbers(name: str) -> None:
    graph = full_size(name)
    layers, weights, gmacs = FAMILIES[name].table
    assert len(graph.weight_layers) == layers
    assert sum(layer.weights for layer in graph.weight_layers.values()) == weights
    assert round(graph.macs / 1e9, 2) == gmacs
    assert len(graph.choices) == CHOICES[name]
    assert sum(choice.weights for choice in graph.choices.values()) == weights
    prec = 32 if name == "sdv15" else 16
    (full,) = run_passes(graph, [Size()], prec=prec)
    assert full.report.data["full_bytes"] == full.report.data["bytes"] == SIZES[name]


def test_one_copy_of_the_timestep_embedder_is_what_dit_really_uses() -> None:
    layers = full_size("dit").weight_layers.values()
    copies = [layer for layer in layers if "timestep_embedder" in layer.name and ".0.norm1" not in layer.name]
    assert 2 * sum(layer.weights for layer in layers if layer not in copies) == 1_346_383_872
