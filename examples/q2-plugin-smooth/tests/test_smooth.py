"""The pass keeps to q2's suite, leaves the model's outputs alone, and makes quantized ones better."""

import pytest
import torch
from q2_plugin_smooth.passes import Smooth
from q2_plugin_smooth.sites import find_sites
from torch import nn

from q2 import run_passes, trace
from q2.denoisers import Denoiser, Weights, load
from q2.errors import ConfigError, PassError
from q2.graph import Graph
from q2.passes import PassContext
from q2.passes.kinds import PASSES
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins
from q2.testing import PassSuite

STEP = Smooth(images=1, steps=1)


class TestSmooth(PassSuite):
    step = STEP

    def denoiser(self, weights: Weights) -> Denoiser | None:
        """Return a tiny DiT."""
        return load("dit", tiny=True, weights=weights, device="cpu")


def _outlying() -> tuple[Denoiser, Graph]:
    """Return a tiny DiT of which some channels are much larger than others, as in large models, and its graph."""
    denoiser = load("dit", tiny=True, device="cpu")
    generator = torch.Generator().manual_seed(0)
    for name, module in denoiser.model.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(("norm1.linear", "to_v")):
            with torch.no_grad():
                factors = torch.randn(module.out_features, generator=generator).exp()
                module.weight.mul_(factors[:, None])
                module.bias.add_(factors - 1)
    return denoiser, trace(denoiser.model, denoiser.example_inputs())


def _output(graph: Graph) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = graph(**graph.example_inputs)[0]
    return output.double()


def test_outputs_stay_and_weights_change() -> None:
    denoiser, graph = _outlying()
    before = _output(graph)
    weights = {name: layer.module.get_parameter("weight").clone() for name, layer in graph.weight_layers.items()}
    change = run_passes(graph, [STEP], denoiser=denoiser)[0].report
    assert torch.allclose(_output(graph), before, atol=1e-4 * float(before.abs().max()))
    blocks = sum(name.endswith("to_out.0") for name in weights)
    assert change.data["layers"] == 5 * blocks  # q, k, v, out and the first of the feed-forward
    changed = {n for n, old in weights.items() if not torch.equal(graph.model.get_parameter(f"{n}.weight"), old)}
    assert {name.partition(".attn1.")[2] for name in changed if "attn1" in name} == {"to_q", "to_k", "to_v", "to_out.0"}
    assert not any(name.endswith("ff.net.2") for name in changed)


def test_the_quantized_model_is_nearer_to_full_precision() -> None:
    errors = []
    for passes in ([], [STEP]):
        denoiser, graph = _outlying()
        exact = _output(graph)
        run_passes(graph, [*passes, Quantize(default="uaq-4")], denoiser=denoiser)
        errors.append(float((_output(graph) - exact).square().mean()))
    assert errors[1] < 0.9 * errors[0]


def test_norms_with_weights_take_the_scale_too() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm3 = nn.LayerNorm(8), nn.LayerNorm(8)
            self.attn1 = nn.ModuleDict({name: nn.Linear(8, 8) for name in ("to_q", "to_k", "to_v")})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read = self.norm1(x)
            q, k, v = (self.attn1[name](read) for name in ("to_q", "to_k", "to_v"))
            out: torch.Tensor = x + q * k + v
            return out

    torch.manual_seed(0)
    model = Block()
    nn.init.uniform_(model.norm1.weight, 0.1, 3)
    assert [site.before for site in find_sites(model)] == ["norm1"]
    graph = trace(model, {"x": torch.randn(4, 8)})
    before = model(**graph.example_inputs)
    run_passes(graph, [Smooth(weights=0.5)])
    assert torch.allclose(model(**graph.example_inputs), before, atol=1e-5)


def test_it_stands_before_quantize_and_its_options_make_sense() -> None:
    denoiser, graph = _outlying()
    with pytest.raises(PassError, match=r"to_q is quantized already; put 'smooth' before 'quantize'"):
        run_passes(graph, [Quantize(default="uaq-4"), STEP], denoiser=denoiser)
    for step, key in (
        (Smooth(activations=2), "activations"),
        (Smooth(limit=0.5), "limit"),
        (Smooth(images=0), "images"),
    ):
        with pytest.raises(ConfigError, match=f"^{key}: expected"):
            step.check(graph, PassContext())


def test_q2_finds_it() -> None:
    assert Plugins(["q2_plugin_smooth"], entry_points=False).of(PASSES).load("smooth") is Smooth
