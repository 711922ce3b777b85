"""Number formats equal independent references bit for bit: ml_dtypes, and fractions."""

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from q2.quant.formats import Integer, MiniFloat

REFERENCES: dict[str, MiniFloat] = {
    "float8_e4m3fn": MiniFloat(4, 3, specials="fn", saturate=False),
    "float8_e4m3": MiniFloat(4, 3, saturate=False),
    "float8_e5m2": MiniFloat(5, 2, saturate=False),
    "float8_e3m4": MiniFloat(3, 4, saturate=False),
    "float6_e3m2fn": MiniFloat(3, 2, specials="none"),
    "float6_e2m3fn": MiniFloat(2, 3, specials="none"),
    "float4_e2m1fn": MiniFloat(2, 1, specials="none"),
    "bfloat16": MiniFloat(8, 7, saturate=False),
}
any_float = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)


def bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return float32 bit patterns, one for every NaN."""
    patterns = np.ascontiguousarray(values, np.float32).view(np.uint32).copy()
    patterns[np.isnan(values)] = 0x7FC00000
    return patterns


def every_value() -> np.ndarray[Any, Any]:
    """Return float32 numbers of all magnitudes, and what is special."""
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 50_000, dtype=np.uint32).view(np.float32)
    usual = (rng.normal(size=50_000) * np.exp2(rng.integers(-20, 20, 50_000))).astype(np.float32)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38], np.float32)
    return np.concatenate([anything, usual, special])


@pytest.mark.parametrize("name", REFERENCES)
def test_a_float_rounds_as_ml_dtypes_does_bit_for_bit(name: str) -> None:
    form, x = REFERENCES[name], every_value()
    if form.specials == "none":
        x = x[~np.isnan(x)]  # these have no NaN to become
    with np.errstate(all="ignore"):
        expected = x.astype(getattr(ml_dtypes, name)).astype(np.float32)
    found = form.quantize(torch.from_numpy(x)).numpy()
    assert (bits(found) == bits(expected)).all()


@pytest.mark.parametrize("name", [name for name, form in REFERENCES.items() if form.width <= 8])
def test_every_code_stands_for_what_ml_dtypes_says(name: str) -> None:
    form = REFERENCES[name]
    expected = np.arange(2**form.width, dtype=np.uint8).view(getattr(ml_dtypes, name)).astype(np.float32)
    assert (bits(form.table().float().numpy()) == bits(expected)).all()
    known = np.isfinite(expected)
    codes = form.codes(torch.from_numpy(expected[known]))
    assert (codes.numpy() == np.arange(2**form.width)[known]).all()


@pytest.mark.parametrize("name", [name for name in REFERENCES if name != "bfloat16"])
def test_a_saturating_float_is_the_greatest_instead_of_infinity(name: str) -> None:
    form = REFERENCES[name]
    kept = MiniFloat(form.exponent, form.mantissa, specials=form.specials)
    greatest = float(np.array(ml_dtypes.finfo(getattr(ml_dtypes, name)).max, np.float32))
    found = kept.quantize(torch.tensor([math.inf, -math.inf, 1e30, greatest * 1.001, math.nan]))
    assert found[:4].tolist() == [greatest, -greatest, greatest, greatest]
    assert math.isnan(found[4])


def nearest(x: float, width: int, frac: int, signed: bool) -> Fraction:
    """Return what fixed point makes of a finite number, by fractions."""
    low = -(2 ** (width - 1)) if signed else 0
    steps = round(Fraction(x) * Fraction(2) ** frac)  # Python rounds ties to even
    return Fraction(min(max(steps, low), low + 2**width - 1)) / Fraction(2) ** frac


@given(finite, st.integers(1, 16), st.integers(-8, 16), st.booleans())
def test_an_integer_is_the_nearest_fraction(x: float, width: int, frac: int, signed: bool) -> None:
    found = Integer(width, frac, signed).quantize(torch.tensor([x], dtype=torch.float64))
    assert Fraction(float(found)) == nearest(x, width, frac, signed)


@given(finite, st.integers(2, 12), st.integers(-4, 8))
def test_an_integer_that_does_not_saturate_wraps_around(x: float, width: int, frac: int) -> None:
    found = float(Integer(width, frac, saturate=False).quantize(torch.tensor([x % 1e6], dtype=torch.float64)))
    steps = round(Fraction(x % 1e6) * Fraction(2) ** frac)
    half = 2 ** (width - 1)
    assert Fraction(found) == Fraction((steps + half) % (2 * half) - half) / Fraction(2) ** frac


def test_rounding_modes_and_special_values_of_integers() -> None:
    x = torch.tensor([-1.5, 0.5, 1.7, math.inf, -math.inf])
    assert Integer(4, 0).quantize(x).tolist() == [-2.0, 0.0, 2.0, 7.0, -8.0]
    assert Integer(4, 0, rounding="floor").quantize(x).tolist() == [-2.0, 0.0, 1.0, 7.0, -8.0]
    assert Integer(4, 0, rounding="zero").quantize(x).tolist() == [-1.0, 0.0, 1.0, 7.0, -8.0]
    assert math.isnan(Integer(4, 0).quantize(torch.tensor([math.nan])))
