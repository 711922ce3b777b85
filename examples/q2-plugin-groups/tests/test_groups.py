"""The quantizers keep to q2's suite; their levels are those of the papers, and a group counts for itself."""

import pytest
import torch
from q2_plugin_groups import quantizers
from q2_plugin_groups.quantizers import NormalFloat, NormalFloatG32, NormalFloatG64, UaqG32, UaqG128, normal_levels

from q2.plugins import Plugins
from q2.quant.calibration.normal import Normal
from q2.quant.kinds import QUANTIZERS
from q2.quant.quantizers.uniform import Uaq
from q2.testing import QuantizerSuite

NF4: tuple[float, ...] = (-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0)
NF4 += (0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0)


class TestUaqG32(QuantizerSuite):
    quantizer = UaqG32()
    dtypes = (torch.float32, torch.float16)  # 256 levels of a group lie closer than bfloat16 can tell


class TestNormalFloat(QuantizerSuite):
    quantizer = NormalFloat()


class TestNormalFloatG32(QuantizerSuite):
    quantizer = NormalFloatG32()


def test_q2_finds_them_under_their_names() -> None:
    found = Plugins(["q2_plugin_groups"], entry_points=False).of(QUANTIZERS)
    for name in ("uaq-g32", "uaq-g64", "uaq-g128", "nf", "nf-g32", "nf-g64", "nf-g128"):
        assert found.load(name).name == name
        assert found.load(name).__name__ in quantizers.__all__


def test_nf4_has_the_levels_of_qlora() -> None:
    assert normal_levels(4).tolist() == pytest.approx(NF4, abs=1e-4)


def test_a_group_with_an_outlier_leaves_the_others_alone() -> None:
    """Every group is quantized as it would be as a channel of its own."""
    weight = torch.randn(4, 256, generator=torch.Generator().manual_seed(0))
    weight[:, 0] = 100
    for grouping, alone in ((UaqG128(), Uaq()), (NormalFloatG64(), NormalFloat())):
        size = grouping.group
        whole = grouping.fit(weight, 4).dequantize()
        parts = [alone.fit(part, 4).dequantize() for part in weight.split(size, 1)]
        assert torch.equal(whole, torch.cat(parts, 1))
        assert grouping.fit(weight, 4).mse < 0.6 * alone.fit(weight, 4).mse


def test_the_values_of_a_last_shorter_group_count_as_often() -> None:
    """20 inputs in a group of 32 that is filled up: with levels for all of them there is no error."""
    weight = torch.arange(16.0).repeat(2, 3)
    assert UaqG32().fit(weight, 4).mse == 0
    assert UaqG32().fit(weight, 4).parameters["scale"].shape == (2, 2)


def test_calibrated_scales_are_the_best_for_the_outputs() -> None:
    """With inputs of unequal size the scale of `nf` moves to where the outputs are best: no other is better."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(6, 40, generator=generator)
    inputs = torch.randn(200, 40, generator=generator) * torch.logspace(-1, 1, 40)
    gram, fitted = (inputs.T @ inputs).double(), NormalFloat().fit(weight, 3)
    chosen = torch.nn.functional.one_hot(fitted.codes().long(), 8).double()
    curvature, pull = chosen.mT @ gram @ chosen, (chosen.mT @ gram @ weight.double()[:, :, None])[:, :, 0]
    found = NormalFloat().refit(Normal(6, 8, lambda part: (curvature[part], pull[part])), fitted.parameters, 3)
    errors = []
    for scale in (found["scale"], fitted.parameters["scale"], 1.01 * found["scale"], 0.99 * found["scale"]):
        lost = weight.double() - NormalFloat().decode_at(fitted.codes(), {"scale": scale}, 3).double()
        errors.append((lost @ gram * lost).sum(1))
    assert all((errors[0] < error).all() for error in errors[1:])
