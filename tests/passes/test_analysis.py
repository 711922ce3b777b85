"""The analysis passes: the numbers are those of the layers, counted another way."""

import math

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import q2
from q2.denoisers import Denoiser
from q2.errors import ConfigError, PassError
from q2.graph import Graph
from q2.passes.analysis.bops import Bops
from q2.passes.analysis.errors import OptionErrors
from q2.passes.analysis.report import ReportGraph
from q2.passes.analysis.size import Size
from q2.passes.analysis.stats import STATS, Stats
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig

from .toys import one_of_each

EACH = ("image", "row", "head", "tail")


def rules(**options: tuple[str, int]) -> Quantize:
    return Quantize(by="name", rules={name: Rule(RuleConfig(*option)) for name, option in options.items()})


def test_bops_follow_the_definition_layer_by_layer() -> None:
    graph = one_of_each()
    macs = {name: layer.macs for name, layer in graph.weight_layers.items()}
    assert macs == {"image": 4 * 9 * 16, "row": 6 * 4 * 16, "head": 5 * 6 * 16, "tail": 3 * 5 * 16}
    step = rules(image=("uaq", 3), row=("kmeans-c", 4), head=("kmeans-a", 2))
    data = q2.run_passes(graph, [step, Bops()])[1].report.data
    norm = 2 * 4 * 16 * 32  # a weight too, 4 channels of 16 pixels, at 32 bits
    layers = 3 * macs["image"] + 16 * macs["row"] + 16 * macs["head"] + 16 * macs["tail"]
    assert data["tbops"] == (16 * layers + norm) / 1e12
    assert data["full_tbops"] == (sum(macs.values()) * 256 + norm) / 1e12
    eight = q2.run_passes(graph, [Bops(activations=8)])[0].report.data
    assert eight["tbops"] == (8 * layers + norm) / 1e12


def test_attention_is_counted_at_the_bits_of_activations_and_softmax() -> None:
    class Attention(nn.Module):
        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(q, q, q)

    graph = q2.trace(Attention(), {"q": torch.randn(1, 2, 5, 4)})
    scores = 2 * 5 * 5
    for step, widths in ((Bops(), (16, 16)), (Bops(8), (8, 8)), (Bops(8, 16), (8, 16)), (Bops(6, 4), (6, 4))):
        data = q2.run_passes(graph, [step])[0].report.data
        product = widths[0] * (widths[0] + widths[1])
        assert data["tbops"] == pytest.approx((scores * 4 * product + scores * 16) / 1e12, rel=1e-12)


def test_gmacs_of_the_embedded_denoiser_are_half_the_flops_torch_counts(digits: Denoiser, graph: Graph) -> None:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        digits.model(**digits.example_inputs())
    data = q2.run_passes(graph, [Bops()])[0].report.data
    assert data["gmacs"] == counter.get_total_flops() / 2 / 1e9


def test_sizes_follow_the_formulas_of_the_paper() -> None:
    graph = one_of_each()
    step = rules(image=("uaq", 3), row=("kmeans-c", 4), head=("kmeans-a", 2))
    data = q2.run_passes(graph, [step, Size()])[1].report.data
    layers = data["layers"]
    assert isinstance(layers, dict)
    assert {name: layer["bits"] for name, layer in layers.items()} == {
        "image": 4 * 1 * 9 * 3 + 2 * 16 * 4,
        "row": 6 * 4 * 4 + 16 * 16 * 6,
        "head": 5 * 6 * 2 + 4 * 16,
        "tail": 3 * 5 * 16,
    }
    assert data["avg_bits"] == sum(layer["bits"] for layer in layers.values()) / (36 + 24 + 30 + 15)
    assert data["bytes"] == sum(math.ceil(layer["bits"] / 8) for layer in layers.values())


def test_the_layer_table_lists_what_is_asked_for() -> None:
    report = q2.run_passes(one_of_each(), [ReportGraph(layers="*a*")])[-1].report
    assert [row[0] for row in report.tables[2].rows] == ["image", "head", "tail"]
    assert report.data["weight_layers"] == 4
    with pytest.raises(ConfigError, match=r"no layer matches 'haed'; did you mean 'head'\?"):
        q2.run_passes(one_of_each(), [ReportGraph(layers="haed")])


def test_stats_are_those_of_torch_and_of_the_real_denoising_steps(digits: Denoiser, graph: Graph) -> None:
    seen: list[torch.Tensor] = []
    layer = graph.weight_layers["proj_out_2"].module
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().double()))
    q2.run_passes(graph, [Stats(layers="proj_out_2", samples=3, steps=2)], denoiser=digits, seed=5)
    handle.remove()
    stats = graph.facts.get(STATS)["proj_out_2"]
    assert stats.activation is not None
    values = torch.cat([x.flatten() for x in seen])
    for found, expected in (
        (stats.activation.mean, values.mean()),
        (stats.activation.std, values.std(correction=0)),
        (stats.activation.abs_max, values.abs().max()),
        (stats.activation.abs_mean, values.abs().mean()),
        (stats.activation.kurtosis, ((values - values.mean()) ** 4).mean() / values.var(correction=0) ** 2),
    ):
        assert found == pytest.approx(float(expected), rel=1e-9)
    weight = digits.model.get_submodule("proj_out_2").weight
    assert isinstance(weight, torch.Tensor)
    assert stats.weight.std == pytest.approx(float(weight.double().std(correction=0)), rel=1e-9)


def test_stats_leave_no_hooks_and_need_a_denoiser_for_activations(digits: Denoiser, graph: Graph) -> None:
    q2.run_passes(graph, [Stats(samples=1, steps=1)], denoiser=digits)
    assert not any(layer.module._forward_pre_hooks for layer in graph.weight_layers.values())
    with pytest.raises(PassError, match=r"stats over denoising steps \(samples > 0\) needs a denoiser"):
        q2.run_passes(one_of_each(), [Stats()])
    toy = one_of_each()
    q2.run_passes(toy, [Stats(samples=0)])
    known = toy.facts.get(STATS)
    assert tuple(known) == EACH


def test_without_a_bank_there_are_no_errors_to_report_and_a_pattern_must_match() -> None:
    assert q2.run_passes(one_of_each(), [OptionErrors()])[0].report.summary == "there is no bank: q2 bank makes it"
    with pytest.raises(ConfigError, match=r"no layer matches 'hed'; did you mean 'head'"):
        q2.run_passes(one_of_each(), [OptionErrors(layers="hed")])
