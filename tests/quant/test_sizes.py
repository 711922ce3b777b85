"""Sizes predicted from shapes are the sizes held, and the reference's."""

import math

import pytest

from q2.quant import builtin_quantizer, fit
from tests.quant.strategies import noise

SHAPES = [(6, 10), (1, 1), (5, 3, 2), (8, 4, 3, 3), (16, 1, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_none_counts_every_element_at_full_width(shape: tuple[int, ...]) -> None:
    fitted = fit(noise(*shape), "none")
    assert fitted.bits == fitted.bits_held == 16 * math.prod(shape)
    assert builtin_quantizer("none").size_bits(shape, 0, 32) == 32 * math.prod(shape)


@pytest.mark.parametrize(
    ("name", "bits", "prec", "reference"),
    [
        ("uaq", 4, 16, 1152 * 1152 * 4 / 8 + (2 * 16 * 1152) // 8),
        ("kmeans-c", 4, 16, 1152 * 1152 * 4 / 8 + (16 * 16 * 1152) // 8),
        ("kmeans-c", 3, 32, 1152 * 1152 * 3 / 8 + (8 * 32 * 1152) // 8),
        ("kmeans-a", 3, 16, 1152 * 1152 * 3 / 8 + (8 * 16) // 8),
    ],
)
def test_bytes_are_those_of_the_reference(name: str, bits: int, prec: int, reference: float) -> None:
    assert builtin_quantizer(name).size_bits((1152, 1152), bits, prec) / 8 == reference


def test_the_width_in_arithmetic_is_16_where_weights_are_looked_up() -> None:
    widths = {name: builtin_quantizer(name).arithmetic_bits(3) for name in ("uaq", "kmeans-c", "kmeans-a", "none")}
    assert widths == {"uaq": 3, "kmeans-c": 16, "kmeans-a": 16, "none": 16}
