"""Passes over modules that are no denoisers: what they count and find, and what transforms keep."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from q2.config import dotted
from q2.errors import ConfigError, PassError, Q2Error
from q2.graph import Graph, trace
from q2.models import Model, load_model
from q2.passes import PassContext, PassManager, run_passes
from q2.passes.analysis.avg_bits import AvgBits
from q2.passes.analysis.change_table import ChangeTable
from q2.passes.analysis.flops import FLOPS, Flops
from q2.passes.analysis.graph_report import GraphReport
from q2.passes.analysis.histogram import WeightsHistogram
from q2.passes.analysis.latency import CallLatency
from q2.passes.analysis.model_size import ModelBytes
from q2.passes.analysis.node_meta import NodeMeta
from q2.passes.analysis.profile import PROFILE, ProfileStatistics
from q2.passes.analysis.statistics import STATISTICS, statistic_of
from q2.passes.analysis.verify import Verify
from q2.passes.transform.channel_width import ChannelConfig, ChannelWidth
from q2.passes.transform.fuse_bn import FuseBn
from q2.passes.transform.quantize import Quantize
from q2.settings import ModelSettings


def opened(name: str) -> tuple[Model, Graph]:
    model = load_model(ModelSettings(name=name))
    return model, trace(model.module, model.example_inputs())


def formats(**widths: object) -> dict[str, Any]:
    return {"config": {"name": "integer", **widths}}


def quantize(table: dict[str, Any]) -> Quantize:
    return Quantize.from_table(table, dotted)


class Transformer(nn.Module):
    """A block with attention, written with PyTorch's own layers and function."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 32), nn.Linear(32, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each.unflatten(-1, (4, -1)).transpose(1, 2) for each in self.qkv(self.norm(x)).chunk(3, -1))
        scores = torch.matmul(q, k.transpose(-1, -2)) / 2.0
        x = x + self.out(torch.matmul(scores.softmax(-1), v).transpose(1, 2).flatten(2))
        out: Tensor = x + self.down(F.gelu(self.up(x)))
        return out


class ResNetLike(nn.Module):
    """Strided, grouped and dilated convolutions, a residual and a pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 7, 2, 3), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.wide, self.short = nn.Conv2d(8, 12, 3, 2, 2, dilation=2), nn.Conv2d(8, 12, 1, 2)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.grouped(x))
        x = F.relu(self.wide(x) + self.short(x))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


MODULES: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "transformer": (Transformer(), (2, 5, 16)),
    "resnet-like": (ResNetLike(), (2, 3, 32, 32)),
}


@pytest.mark.parametrize("name", ["jsc-tiny", "jsc-new", "jsc-three-linear", "digits-cnn", *MODULES])
def test_flops_are_half_of_what_torchs_counter_counts(name: str) -> None:
    if name in MODULES:
        module, shape = MODULES[name]
        inputs = {"x": torch.randn(shape)}
    else:
        model = load_model(ModelSettings(name=name))
        module, inputs = model.module, model.example_inputs()
    graph = trace(module.eval(), inputs)
    run_passes(graph, [Flops()])
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(**inputs)
    assert sum(each.macs for each in graph.facts.get(FLOPS) if each.counted) * 2 == counter.get_total_flops()


def test_bitops_follow_the_widths_and_sizes_the_formats() -> None:
    model, graph = opened("jsc-tiny")
    ctx = PassContext(model=model)
    step = quantize({"linear": formats(data_in_width=4, weight_width=8, weight_frac_width=4, bias_width=16)})
    manager = PassManager([(each.name, each) for each in (step, Flops(), AvgBits(), ModelBytes())], ctx)
    _, flops, bits, size = (result.report.data for result in manager.run(graph))
    assert (flops["flops"], flops["bitops"], flops["other_flops"]) == (80, 80 * 4 * 8, 32)
    assert (bits["w_avg_bit"], bits["b_avg_bit"], bits["in_avg_bit"]) == (8, 16, 4)
    assert bits["w_overall_bit"] == 640
    assert size["bytes"] == 80 + 10 + 4 * (16 * 4) + 8  # linear, its bias, the norm with its statistics, its counter
    assert size["full_bytes"] == 4 * (80 + 5 + 16 * 4) + 8


def test_microscaling_counts_its_shared_exponents() -> None:
    _, graph = opened("digits-cnn")
    mx = {"config": {"name": "mxfp", "weight_width": 4}}
    found = run_passes(graph, [quantize({"linear": mx}), AvgBits()])[1].report.tables[0].rows
    head = next(row for row in found if row[0] == "head")
    assert head[3] == 4 + 8 / 32  # 32 inputs: one block a row


def test_options_of_recipes_count_as_they_are_stored() -> None:
    _, graph = opened("jsc-new")
    found = run_passes(graph, [quantize({"linear": "integer-8.4"}), AvgBits()])
    assert found[1].report.data["w_avg_bit"] == 8
    weight = graph.model.get_submodule("seq_blocks.2").weight
    assert isinstance(weight, Tensor)
    assert bool((weight * 16 % 1 == 0).all())


@pytest.mark.parametrize("dims", ["all", [0]])
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_equal_numpys(name: str, dims: object) -> None:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 100
    statistic = statistic_of(name, {"dims": dims})
    for part in x.split([7, 13, 40]):
        statistic.add(part)
    array = x.numpy().reshape(-1) if dims == "all" else x.numpy()
    mean, deviation = array.mean(0), array.std(0)
    expected: dict[str, dict[str, Any]] = {
        "variance_precise": {"mean": mean, "variance": array.var(0)},
        "variance_online": {"mean": mean, "variance": array.var(0)},
        "range_quantile": {"min": np.quantile(array, 0.03, 0), "max": np.quantile(array, 0.97, 0)},
        "range_n_sigma": {"min": mean - 3 * deviation, "max": mean + 3 * deviation},
        "range_min_max": {"min": array.min(0), "max": array.max(0)},
        "abs_mean": {"abs_mean": np.abs(array).mean(0)},
    }
    found = statistic.result()
    assert found["count"] == len(array)
    for key, value in expected[name].items():
        np.testing.assert_allclose(np.asarray(found[key]), value, rtol=1e-12)
    if "max" in expected[name]:
        np.testing.assert_allclose(np.asarray(found["range"]), expected[name]["max"] - expected[name]["min"], rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("variance_presice", {}, "w.variance_presice: no such statistic; did you mean 'variance_precise'?"),
        ("range_quantile", {"quantile": 0.0}, "w.range_quantile: quantile: expected a number between 0 and 1, not 0.0"),
        ("range_quantile", {"quantlie": 0.5}, "w.range_quantile.quantlie: unknown key; did you mean 'quantile'?"),
        ("range_n_sigma", {"num_sigma": "x"}, "w.range_n_sigma.num_sigma: expected a number, not 'x'"),
        ("abs_mean", {"dims": "some"}, "w.abs_mean.dims: expected \"all\" or numbers of dims, not 'some'"),
    ],
)
def test_a_statistic_that_there_is_not_is_one_line(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        statistic_of(name, options, "w")
    assert str(error.value).startswith(message)


def test_a_profile_is_of_the_samples_that_were_asked_for() -> None:
    model, graph = opened("jsc-new")
    step = ProfileStatistics(
        by="name",
        target_weight_nodes=("seq_blocks_5",),
        target_activation_nodes=("seq_blocks.8",),
        weight_statistics={"abs_mean": {}},
        activation_statistics={"range_min_max": {}, "variance_online": {"dims": [0]}},
        num_samples=300,
    )
    PassManager([(each.name, each) for each in (step, NodeMeta())], PassContext(model=model)).run(graph)
    found = graph.facts.get(PROFILE)
    inputs = model.need_data("the test").first(300)
    blocks = model.module.seq_blocks
    assert isinstance(blocks, nn.Sequential)
    with torch.no_grad():
        read = blocks[:8](inputs)
    stats = found["seq_blocks_8"]["data_in_0"]
    assert stats["range_min_max"]["count"] == 300 * 8
    assert stats["range_min_max"]["max"] == pytest.approx(float(read.max()))
    assert stats["variance_online"]["variance"] == pytest.approx(read.double().var(0, correction=0).tolist(), rel=1e-5)
    assert set(found["seq_blocks_5"]) == {"weight", "bias"}
    with pytest.raises(ConfigError, match="no layer has the type 'linaer'; did you mean 'linear'"):
        ProfileStatistics(target_weight_nodes=("linaer",)).check(graph, PassContext())


def test_the_change_table_knows_what_was_there_before_any_transform() -> None:
    model, graph = opened("jsc-new")
    step = quantize({"linear": formats(weight_width=8), "batch_norm1d": formats(weight_width=8)})
    passes = [FuseBn(), step, ChangeTable()]
    results = PassManager([(each.name, each) for each in passes], PassContext(model=model)).run(graph)
    rows = {row[0]: row[2:] for row in results[-1].report.tables[0].rows}
    assert rows == {
        "BatchNorm1d": (4, 4, 0),  # three folded, the first in fixed point
        "Linear": (3, 3, 0),
        "ReLU": (4, 0, 4),
        "output": (1, 0, 1),
        "x": (1, 0, 1),
    }


def test_pictures_tables_and_checks_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = opened("jsc-tiny")
    passes = [GraphReport(), NodeMeta(), quantize({"linear": formats(weight_width=4)}), WeightsHistogram(), Verify()]
    passes.append(CallLatency(repeats=3))
    results = PassManager([(each.name, each) for each in passes], PassContext(model=model)).run(graph)
    files = {name: data for result in results for name, data in result.report.files.items()}
    assert set(files) == {"report-graph.txt", "node-meta.txt", "node-meta.json", "weights-histogram.png"}
    assert b"Network overview:" in files["report-graph.txt"]
    assert files["weights-histogram.png"].startswith(b"\x89PNG")
    before, now = results[3].report.tables[0].rows[0][2:]
    assert isinstance(now, int)
    assert now <= 16 < int(before)
    latency = results[-1].report.data
    assert 0 < float(str(latency["low"])) <= float(str(latency["median"])) <= float(str(latency["high"]))


@pytest.mark.parametrize("name", ["jsc-new", "digits-cnn"])
def test_folded_batch_norms_leave_the_outputs_as_they_are(name: str) -> None:
    model, graph = opened(name)
    inputs = model.need_data("the test").first(200)
    with torch.no_grad():
        before = model.module(inputs)
        result, _ = run_passes(graph, [FuseBn(), Verify()])
        after = model.module(inputs)
    assert torch.allclose(before, after, atol=2e-4, rtol=1e-4)
    assert result.report.data["folded"] == {"jsc-new": 3, "digits-cnn": 5}[name]
    left = [each for each in graph.model.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert len(left) == {"jsc-new": 1, "digits-cnn": 0}[name]


def test_widened_channels_follow_through_norms_residuals_and_heads() -> None:
    _, graph = opened("digits-cnn")
    rules = {"^head": ChannelConfig(1), "block2": ChannelConfig(3)}
    run_passes(graph, [ChannelWidth("regex", ChannelConfig(2), rules), Verify()])
    shapes = {name: (layer.in_channels, layer.out_channels) for name, layer in graph.weight_layers.items()}
    assert shapes == {
        "stem": (1, 32),
        "block1.conv1": (32, 32),
        "block1.conv2": (32, 32),
        "block2.conv1": (32, 96),
        "block2.conv2": (96, 96),
        "block2.shortcut": (32, 96),
        "head": (96, 10),
    }
    norm = graph.model.get_submodule("block2.norm2")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_features == 96
    assert graph(x=torch.randn(7, 1, 8, 8)).shape == (7, 10)


class Joined(nn.Module):
    """Two branches that are concatenated, flattened and read."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1)
        self.norm, self.head = nn.LayerNorm(7 * 4, bias=False), nn.Linear(7 * 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), F.relu(self.right(x))], 1)
        out: Tensor = self.head(self.norm(both.flatten(1)))
        return out


def test_widened_channels_follow_through_concatenations_and_flattening() -> None:
    graph = trace(Joined(), {"x": torch.randn(2, 2, 2, 2)})
    run_passes(graph, [ChannelWidth("name", rules={"left": ChannelConfig(2)}), Verify()])
    head, norm = graph.model.get_submodule("head"), graph.model.get_submodule("norm")
    assert isinstance(head, nn.Linear)
    assert isinstance(norm, nn.LayerNorm)
    assert (head.in_features, norm.normalized_shape) == ((6 + 4) * 4, ((6 + 4) * 4,))
    assert "bias" not in dict(norm.named_parameters())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"stem": 2.0},
            "failed at 'add': a residual of block1_norm2 (16) and block1_shortcut (32) channels",
        ),
        ({"head": 2.0}, "the model's outputs would have other channels; leave its last layers at 1"),
        ({"stem": 1.03}, "failed at 'stem': 16 output channels times 1.03 is no whole number"),
    ],
)
def test_a_multiplier_that_breaks_the_network_says_where_and_changes_nothing(
    rules: dict[str, float], message: str
) -> None:
    model, graph = opened("digits-cnn")
    before = str(model.module)
    with pytest.raises(PassError) as error:
        run_passes(graph, [ChannelWidth("name", rules={key: ChannelConfig(each) for key, each in rules.items()})])
    assert message in str(error.value)
    assert str(model.module) == before


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (formats(data_in_width=8, data_in_frac_width=40), "frac_width 40 of 'integer' is outside -32 to 32"),
        (
            formats(data_in_frac_width=4, weight_width=8),
            "config.data_in_frac_width: needs data_in_width beside it",
        ),
        (
            formats(data_in_width=8, data_in_block_size=4),
            "config.data_in_block_size: 'integer' has no use for it",
        ),
        (
            formats(weight_width=8, data_in_widht=8),
            "config.data_in_widht: unknown key; did you mean 'data_in_width'",
        ),
        ({"config": {"name": "mxfp", "weight_width": 5, "data_in_width": 4}}, "a 'mxfp' of 5 bits needs it"),
    ],
)
def test_a_rule_that_makes_no_sense_is_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(Q2Error) as error:
        quantize({"linear": table})
    assert message in str(error.value)


def test_the_first_rule_that_matches_wins_whether_format_or_option() -> None:
    _, graph = opened("jsc-new")
    step = quantize(
        {
            "by": "regex",
            "seq_blocks.2": "uaq-4",
            "seq_blocks.[25]": formats(weight_width=8),
            "default": formats(bias_width=4),
        }
    )
    run_passes(graph, [step])
    assert "option=uaq-4" in str(graph.model.get_submodule("seq_blocks.2"))
    assert "weight integer-8.4" in str(graph.model.get_submodule("seq_blocks.5"))
    assert "bias integer-4.2" in str(graph.model.get_submodule("seq_blocks.8"))
    assert "bias integer-4.2" in str(graph.model.get_submodule("seq_blocks.0"))
    again = quantize(step.to_table())
    assert again.to_table() == step.to_table()
    assert math.isfinite(float(graph(x=torch.zeros(4, 16)).sum()))
