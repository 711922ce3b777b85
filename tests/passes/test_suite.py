"""The passes that ship keep to the suite that plugins' passes are held to; ones that break its rules do not."""

from pathlib import Path

import pytest
import torch
from torch import nn

from q2.denoisers import Denoiser, Weights, load
from q2.passes.analysis.avg_bits import AvgBits
from q2.passes.analysis.bops import Bops
from q2.passes.analysis.change_table import ChangeTable
from q2.passes.analysis.dag import Dag
from q2.passes.analysis.errors import OptionErrors
from q2.passes.analysis.flops import Flops
from q2.passes.analysis.graph_report import GraphReport
from q2.passes.analysis.histogram import WeightsHistogram
from q2.passes.analysis.latency import CallLatency
from q2.passes.analysis.model_size import ModelBytes
from q2.passes.analysis.node_meta import NodeMeta
from q2.passes.analysis.profile import ProfileStatistics
from q2.passes.analysis.report import ReportGraph
from q2.passes.analysis.sensitivity import LayerSensitivity
from q2.passes.analysis.size import Size
from q2.passes.analysis.stats import Stats
from q2.passes.analysis.units import Units
from q2.passes.analysis.verify import Verify
from q2.passes.transform.calibrate import Calibrate
from q2.passes.transform.channel_width import ChannelWidth
from q2.passes.transform.fuse_bn import FuseBn
from q2.passes.transform.quantize import Quantize
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.testing import PassSuite


class TestReport(PassSuite):
    step = ReportGraph()


class TestBops(PassSuite):
    step = Bops(activations=8, softmax=8)
    first = (Quantize(default="uaq-4"),)


class TestSize(PassSuite):
    step = Size()
    first = (Quantize(default="kmeans-c-3"),)


class TestUnits(PassSuite):
    step = Units(rules={"attn": "attention"})


class TestDag(PassSuite):
    step = Dag()


class TestOptionErrors(PassSuite):
    step = OptionErrors()


class TestGraphReport(PassSuite):
    step = GraphReport()


class TestNodeMeta(PassSuite):
    step = NodeMeta()


class TestAvgBits(PassSuite):
    step = AvgBits()


class TestFlops(PassSuite):
    step = Flops()


class TestLatency(PassSuite):
    step = CallLatency()
    repeatable = False


class TestModelSize(PassSuite):
    step = ModelBytes()


class TestChangeTable(PassSuite):
    step = ChangeTable()
    first = (Quantize(default="uaq-4"),)


class TestHistogram(PassSuite):
    step = WeightsHistogram(layers="*ff*")


class TestVerify(PassSuite):
    step = Verify()


class TestStats(PassSuite):
    step = Stats(samples=1, steps=1)

    def denoiser(self, weights: Weights) -> Denoiser:
        return load("dit", tiny=True, weights=weights, device="cpu" if weights == "random" else "auto")


class TestProfileStatistics(PassSuite):
    step = ProfileStatistics(
        by="type",
        target_weight_nodes=("linear",),
        target_activation_nodes=("linear",),
        weight_statistics={"variance_precise": {"device": "cpu", "dims": "all"}},
        activation_statistics={"range_min_max": {"abs": False, "dims": "all"}},
    )


class TestLayerSensitivity(PassSuite):
    step = LayerSensitivity("*.attn1.to_q", options=("uaq-3", "uaq-2"), images=1, steps=1)

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It keeps measurements in the working folder."""
        monkeypatch.chdir(tmp_path)

    def denoiser(self, weights: Weights) -> Denoiser:
        return load("dit", tiny=True, weights=weights, device="cpu" if weights == "random" else "auto")


class TestQuantize(PassSuite):
    step = Quantize(by="regex", rules={"attn": "kmeans-c-4"}, default="uaq-3")


class TestQuantizeActivations(PassSuite):
    step = QuantizeActivations(bits=6)


class TestCalibrate(PassSuite):
    step = Calibrate(images=1, steps=1, rows=16)
    first = (Quantize(default="uaq-3"),)

    def denoiser(self, weights: Weights) -> Denoiser:
        return load("dit", tiny=True, weights=weights, device="cpu" if weights == "random" else "auto")


class _Normed(PassSuite):
    def model(self) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
        return layers.eval().requires_grad_(False), {"input": torch.ones(1, 2, 6, 6)}


class TestFuseBn(_Normed):
    step = FuseBn()


class TestChannelWidth(_Normed):
    step = ChannelWidth.from_table({"by": "name", "0": 2.0}, str)
