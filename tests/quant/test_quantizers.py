"""What holds for every quantizer."""

import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from q2.quant import fit
from tests.quant.strategies import DTYPES, noise, relaxed, weights

WIDTHS = st.integers(1, 8)
QUANTIZERS = st.sampled_from(["uaq", "kmeans-c", "kmeans-a"])
PRECS = st.sampled_from([16, 32])


@relaxed
@given(weights(), QUANTIZERS, WIDTHS, PRECS)
@example(torch.tensor([[0.1, 0.2, 0.9]]), "uaq", 2, 16)
def test_values_come_from_codes_and_parameters_in_shape_and_dtype(
    weight: Tensor, name: str, bits: int, prec: int
) -> None:
    fitted = fit(weight, f"{name}-{bits}", prec=prec)
    values, codes = fitted.dequantize(), fitted.codes()
    assert values.shape == codes.shape == weight.shape
    assert (values.dtype, codes.dtype) == (weight.dtype, torch.uint8)
    assert int(codes.max()) < 2**bits
    assert all(8 * parameter.element_size() == prec for parameter in fitted.parameters.values())
    assert torch.isfinite(values).all()
    assert torch.equal(values, fitted.dequantize())


@relaxed
@given(weights(), QUANTIZERS, WIDTHS, PRECS)
@example(torch.tensor([[-8, -3.5, -5.125]], dtype=torch.bfloat16), "uaq", 4, 16)  # the end is a power of two
def test_quantizing_the_result_again_changes_nothing(weight: Tensor, name: str, bits: int, prec: int) -> None:
    once = fit(weight, f"{name}-{bits}", prec=prec).dequantize()
    twice = fit(once, f"{name}-{bits}", prec=prec)
    assert torch.equal(twice.dequantize(), once)
    assert twice.mse == twice.l24 == twice.quantized_error == 0
    assert twice.sqnr_db == math.inf


@relaxed
@given(weights(), QUANTIZERS, WIDTHS)
def test_the_errors_are_those_of_the_values(weight: Tensor, name: str, bits: int) -> None:
    fitted = fit(weight, f"{name}-{bits}")
    error = (weight.double() - fitted.dequantize().double()).abs()
    assert fitted.mse == pytest.approx(float(error.square().mean()), rel=1e-12)
    assert fitted.l24 == pytest.approx(float(error.pow(2.4).mean()), rel=1e-12)
    assert fitted.quantized_error == pytest.approx(float(error.pow(2.4).mean(1).sum()), rel=1e-12)
    if fitted.mse:
        signal = float(weight.double().square().mean())
        assert fitted.sqnr_db == pytest.approx(10 * math.log10(signal / fitted.mse) if signal else -math.inf)


@relaxed
@given(QUANTIZERS, WIDTHS, st.sampled_from(DTYPES), st.floats(-60000, 60000, width=16), st.integers(1, 9))
def test_constant_and_zero_channels_are_exact(
    name: str, bits: int, dtype: torch.dtype, value: float, columns: int
) -> None:
    weight = torch.full((2, columns), value, dtype=dtype)
    if name != "kmeans-a":  # which has one codebook for both channels
        weight[1] = 0
    if dtype == torch.bfloat16 and name == "uaq" and abs(float(weight[0, 0])) > 65504:
        weight[1] = weight[0]  # rounded out of float16: the scales become bfloat16
    assert torch.equal(fit(weight, f"{name}-{bits}").dequantize(), weight)


@pytest.mark.parametrize("name", ["uaq", "kmeans-c", "kmeans-a"])
@pytest.mark.parametrize("prec", [16, 32])
@pytest.mark.parametrize(
    "row",
    [
        [1e30, -3e38, 3.4e38, 0.0],
        [1e-30, 2e-38, -1e-45, 0.0],
        [1e5, 1.00001e5, 1.00002e5, 0.99e5],
        [5000.0, 5000.5, 5001.0, 5002.0],
        [65504.0, -65504.0, 65000.0, 1e-8],
        [3e-8, 6e-8, -6e-8, 1e-7],
    ],
)
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_numbers_at_the_edge_of_a_float_give_neither_nan_nor_infinity(
    name: str, prec: int, row: list[float], bits: int
) -> None:
    for dtype in DTYPES:
        weight = torch.tensor([row, [0.5, -0.25, 0.125, 1.0], [0.0] * 4])
        weight = weight.clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype)
        values = fit(weight, f"{name}-{bits}", prec=prec).dequantize()
        assert torch.isfinite(values).all()
        error = (values[0].double() - weight[0].double()).abs().max()
        if name != "kmeans-a":
            span, largest = float(weight[0].double().max() - weight[0].double().min()), float(weight[0].abs().max())
            assert error <= 0.6 * span + 0.01 * largest + 2**-25  # half the smallest step of float16


@pytest.mark.parametrize("name", ["uaq", "kmeans-c", "kmeans-a"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_as_large_as_the_dtype_holds_are_quantized_as_well_as_small_ones(
    name: str, dtype: torch.dtype, bits: int
) -> None:
    small = (noise(4, 300, dtype=torch.float64).clamp(-3, 3) / 3).to(dtype)  # the ends are there, most lie between
    large = small * torch.finfo(dtype).max
    fitted = fit(large, f"{name}-{bits}", prec=32)
    assert torch.isfinite(fitted.dequantize()).all()
    assert fitted.sqnr_db >= fit(small, f"{name}-{bits}", prec=32).sqnr_db - 1


def test_none_keeps_a_copy_of_the_weight() -> None:
    weight = noise(4, 6)
    fitted = fit(weight, "NA")
    assert torch.equal(fitted.dequantize(), weight)
    assert fitted.dequantize().data_ptr() != weight.data_ptr()
    assert (fitted.mse, fitted.sqnr_db, str(fitted.option)) == (0.0, math.inf, "none")
