"""The quantizers that ship keep to the suite that plugins' quantizers are held to."""

from q2.quant import builtin_quantizer
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
