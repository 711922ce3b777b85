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
from torch import nn

from q2.errors import OptionError
from q2.quant.formats import Format, Integer, MiniFloat, Mx, fake_quantize
from q2.quant.formats.mx import mx_float, mx_integer
from q2.quant.formatted import Formats, format_layer, unformat_layer

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


ELEMENTS = {"float4_e2m1fn": (2, 1), "float6_e2m3fn": (2, 3), "float6_e3m2fn": (3, 2), "float8_e4m3fn": (4, 3), "float8_e5m2": (5, 2)}  # fmt: skip


def reference_scale(block: list[float], top: int) -> Fraction:
    """Return the shared power of two by fractions alone: OCP MX 1.0, section 6.3."""
    largest = max((abs(Fraction(x)) for x in block), default=Fraction(0))
    exponent = -127
    if largest:
        exponent = largest.numerator.bit_length() - largest.denominator.bit_length() + 1
        while Fraction(2) ** exponent > largest:
            exponent -= 1
        exponent = max(-127, min(127, exponent - top))
    return Fraction(2) ** exponent


@pytest.mark.parametrize("name", ELEMENTS)
@given(block=st.lists(finite, min_size=1, max_size=40))
def test_mx_floats_equal_ml_dtypes_elements_under_a_scale_by_fractions(name: str, block: list[float]) -> None:
    kind = getattr(ml_dtypes, name)
    info = ml_dtypes.finfo(kind)
    greatest = Fraction(float(info.max))
    top = math.floor(math.log2(float(info.max)))
    found = mx_float(*ELEMENTS[name]).quantize(torch.tensor(block, dtype=torch.float64)).tolist()
    for start in range(0, len(block), 32):
        part = block[start : start + 32]
        scale = reference_scale(part, top)
        for x, got in zip(part, found[start : start + 32], strict=True):
            # float64 holds x / scale exactly; beyond the greatest an element saturates
            scaled = max(-greatest, min(greatest, Fraction(x) / scale))
            element = float(np.float64(float(scaled)).astype(kind))
            assert Fraction(got) == Fraction(element) * scale


@given(st.lists(finite, min_size=1, max_size=40), st.integers(2, 8))
def test_mx_integers_equal_fractions(block: list[float], width: int) -> None:
    found = mx_integer(width).quantize(torch.tensor(block, dtype=torch.float64)).tolist()
    for start in range(0, len(block), 32):
        part = block[start : start + 32]
        scale = reference_scale(part, 0)
        for x, got in zip(part, found[start : start + 32], strict=True):
            element = nearest_fraction(Fraction(x) / scale, width)
            assert Fraction(got) == element * scale


def nearest_fraction(x: Fraction, width: int) -> Fraction:
    steps = round(x * 2 ** (width - 2))
    return Fraction(min(max(steps, -(2 ** (width - 1))), 2 ** (width - 1) - 1), 2 ** (width - 2))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_block_of_mx_with_nan_or_infinity_becomes_nan_and_its_neighbours_do_not(bad: float) -> None:
    x = torch.ones(2, 64)
    x[0, 5] = bad
    found = mx_float(2, 1).quantize(x)
    assert found[0, :32].isnan().all()
    assert (found[0, 32:] == 1).all()
    assert (found[1] == 1).all()


def test_mx_runs_along_its_dim_and_counts_shared_exponents() -> None:
    x = torch.randn(3, 40, 5)
    along = Mx(mx_float(2, 1).element, dim=1)
    assert torch.equal(along.quantize(x), mx_float(2, 1).quantize(x.transpose(1, 2)).transpose(1, 2))
    assert along.bits(x.shape) == 3 * 40 * 5 * 4 + 8 * 3 * 5 * 2


FORMATS: list[Format] = [Integer(8, 4), Integer(16, 8), MiniFloat(4, 3, specials="fn"), mx_float(2, 1), mx_integer(8)]


@pytest.mark.parametrize("form", FORMATS, ids=str)
@given(values=st.lists(finite, min_size=1, max_size=70))
def test_a_format_is_idempotent_and_odd_but_for_the_least_integer(form: Format, values: list[float]) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    once = form.quantize(x)
    assert torch.equal(form.quantize(once), once)


def test_gradients_go_straight_through_within_the_limits() -> None:
    x = torch.tensor([0.3, -0.2, 50.0, -50.0], requires_grad=True)
    (fake_quantize(x, Integer(8, 4)) * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 2.0, 0.0, 0.0]


LAYERS: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Linear(6, 4), (2, 6)),
    (nn.Conv1d(6, 4, 3), (2, 6, 8)),
    (nn.Conv2d(6, 4, 3, groups=2), (2, 6, 8, 8)),
    (nn.ConvTranspose2d(6, 4, 3), (2, 6, 4, 4)),
    (nn.BatchNorm1d(6), (3, 6)),
    (nn.BatchNorm2d(6), (3, 6, 2, 2)),
    (nn.LayerNorm(6), (2, 6)),
    (nn.GroupNorm(2, 6), (2, 6, 3)),
    (nn.InstanceNorm1d(6, affine=True), (2, 6, 5)),
    (nn.RMSNorm(6), (2, 6)),
    (nn.PReLU(6), (2, 6)),
    (nn.Bilinear(6, 6, 2), (2, 6)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=[type(layer).__name__ for layer, _ in LAYERS])
def test_a_layer_keeps_every_parameter_and_computes_with_rounded_ones(layer: nn.Module, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    form = Integer(8, 4)
    formatted = format_layer(layer.eval(), Formats(form, form, form))
    x = torch.randn(shape)
    twin = unformat_layer(formatted)
    assert type(twin) is type(layer)
    given = (x, x) if isinstance(layer, nn.Bilinear) else (x,)
    found = formatted(*given)
    reference = type(layer).__new__(type(layer))
    vars(reference).update(vars(layer))
    reference._parameters = {
        name: None if each is None else nn.Parameter(form.quantize(each.detach()))
        for name, each in layer._parameters.items()
    }
    assert torch.equal(found, reference(*(form.quantize(each) for each in given)))
    assert set(formatted.state_dict()) == set(before)
    assert all(torch.equal(formatted.state_dict()[name], tensor) for name, tensor in before.items())
    assert {id(each) for each in formatted.parameters()} == {id(each) for each in layer.parameters()}
    found.sum().backward()
    assert all(each.grad is not None for each in layer.parameters())


def test_an_attention_has_its_output_projection_rounded_too() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    nn.init.normal_(layer.out_proj.bias)
    form = Integer(6, 3)
    formatted = format_layer(layer, Formats(None, form, form))
    twin = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    twin.load_state_dict({name: form.quantize(each) for name, each in layer.state_dict().items()})
    x = torch.randn(1, 3, 8)
    with torch.no_grad():
        assert torch.allclose(formatted(x, x, x)[0], twin(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Integer(33, 4), "width 33 of 'integer' is outside 1 to 32"),
        (lambda: Integer(8, 40), "frac_width 40 of 'integer' is outside -32 to 32"),
        (lambda: MiniFloat(9, 3), "e9m3 of 'minifloat': expected an exponent of 1 to 8 bits, a mantissa of 0 to 23"),
        (lambda: mx_float(2, 1, block=0), "block_size 0 of 'mx': expected 1 or more"),
        (lambda: mx_integer(1), "width 1 of 'mx' integers is outside 2 to 16"),
    ],
)
def test_a_format_that_makes_no_sense_says_so(make: Any, message: str) -> None:
    with pytest.raises(OptionError) as error:
        make()
    assert str(error.value) == message
