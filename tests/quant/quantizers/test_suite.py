"""The quantizers that ship keep to the suite that plugins' quantizers are held to."""

import math

import pytest
import torch
from torch import nn

from q2.errors import OptionError, PluginError
from q2.quant import builtin_quantizer, quantize_layer
from q2.quant.check import check_quantizer
from q2.quant.packed.layers import pack_layer
from q2.testing import QuantizerSuite


class TestUaq(QuantizerSuite):
    quantizer = builtin_quantizer("uaq")


class TestKMeansC(QuantizerSuite):
    quantizer = builtin_quantizer("kmeans-c")


class TestKMeansA(QuantizerSuite):
    quantizer = builtin_quantizer("kmeans-a")


class TestInteger(QuantizerSuite):
    quantizer = builtin_quantizer("integer")


class TestMiniFloat(QuantizerSuite):
    quantizer = builtin_quantizer("minifloat")


class TestMxFloat(QuantizerSuite):
    quantizer = builtin_quantizer("mxfp")
    wider_is_better = False  # e4m3 of 8 bits has as many bits of mantissa as e2m3 of 6


class TestMxInteger(QuantizerSuite):
    quantizer = builtin_quantizer("mxint")
    dtypes = ()  # -2^n, which no positive code has, raises the shared exponent by one


class TestNone(QuantizerSuite):
    """The suite, but for what `none` is alone in: it has no width and no codes, and counts `prec` bits a weight."""

    quantizer = builtin_quantizer("none")

    def test_it_does_what_is_asked_where_a_run_names_it(self) -> None:
        """A plugin cannot offer another one: a width of 0 is its own."""
        with pytest.raises(PluginError, match="expected whole numbers within 1 to 8"):
            check_quantizer(type(self.quantizer), "", "none")

    def test_a_width_that_is_not_offered_is_one_line(self) -> None:
        """Any width is one too many."""
        with pytest.raises(OptionError, match="width 1 of 'none'"):
            self.quantizer.fit(torch.ones(2, 2), 1)

    def test_the_size_that_is_predicted_is_the_size_that_is_held(self) -> None:
        """`prec` bits for every weight, whatever its dtype; it holds the weight itself."""
        for weight, fitted in self.fits():
            assert torch.equal(fitted.parameters["weight"], weight)
            assert fitted.bits == fitted.prec * math.prod(weight.shape)
            assert fitted.bits == self.quantizer.overhead_bits(weight.shape, 0, fitted.prec)

    def test_a_packed_layer_computes_what_the_simulated_one_does_and_survives_a_file(self) -> None:
        """Its layer computes what the plain one does, also packed."""
        layer = nn.Linear(5, 3).requires_grad_(False)
        x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
        simulated = quantize_layer(layer, self.quantizer.fit(layer.weight, 0))
        assert torch.equal(simulated(x), layer(x))
        assert torch.equal(pack_layer(simulated)(x), layer(x))
