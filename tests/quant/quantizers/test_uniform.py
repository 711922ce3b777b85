"""`uaq` against the reference's ten candidates, written plainly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from q2.quant import fit
from tests.quant.strategies import DTYPES, noise, relaxed, weights


def reference_errors(weight: Tensor, bits: int) -> list[float]:
    """The least sum of |x - x'|^2.4 of every channel over the reference's grid, its scale stored as float16."""
    best = []
    for row in weight.double():
        errors = []
        for i in torch.linspace(0, 90, 10).tolist():
            low, high = float(row.min()) * (1 - i / 100), float(row.max()) * (1 - i / 100)
            delta = (high - low) / (2**bits - 1)
            if delta == 0:
                continue
            zero = round(-low / delta)
            delta = float(torch.tensor(delta).half())
            codes = ((row / delta).round() + zero).clamp(0, 2**bits - 1)
            values = ((codes - zero) * delta).to(weight.dtype).double()
            errors.append(float((row - values).abs().pow(2.4).sum()))
        best.append(min(errors, default=0.0))
    return best


def own_errors(weight: Tensor, bits: int) -> list[float]:
    values = fit(weight, f"uaq-{bits}").dequantize()
    return [float(error) for error in (weight.double() - values.double()).abs().pow(2.4).sum(1)]


@relaxed
@given(weights(columns=40), st.integers(1, 8))
def test_no_channel_is_worse_than_the_reference(weight: Tensor, bits: int) -> None:
    weight = torch.where(weight.abs() < 2**-6, 0, weight)  # so that scales are normal float16 numbers
    for own, reference in zip(own_errors(weight, bits), reference_errors(weight, bits), strict=True):
        assert own <= reference * (1 + 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_finer_search_gains_on_ordinary_weights(dtype: torch.dtype, bits: int) -> None:
    weight = noise(16, 1000, seed=bits, dtype=dtype) * 0.03
    own, reference = own_errors(weight, bits), reference_errors(weight, bits)
    assert all(a <= b * (1 + 1e-6) for a, b in zip(own, reference, strict=True))
    assert sum(own) < sum(reference)


@pytest.mark.parametrize("shape", [(5, 30000), (300, 400), (9, 2, 3, 3)])
def test_every_channel_is_searched_by_itself(shape: tuple[int, ...]) -> None:
    weight = noise(*shape) * torch.linspace(0.1, 2, shape[0]).view(-1, *(1,) * (len(shape) - 1))
    whole = fit(weight, "uaq-4")
    for channel in (0, shape[0] // 2, shape[0] - 1):
        alone = fit(weight[channel : channel + 1], "uaq-4")
        assert torch.equal(alone.dequantize()[0], whole.dequantize()[channel])


def test_scale_and_zero_point_are_what_the_formula_takes() -> None:
    fitted = fit(noise(6, 50), "uaq-5")
    scale, zero = fitted.parameters["scale"], fitted.parameters["zero"]
    assert (scale.dtype, zero.dtype, scale.shape, zero.shape) == (torch.float16, torch.int16, (6,), (6,))
    expected = scale.float()[:, None] * (fitted.codes().float() - zero[:, None])
    assert torch.equal(fitted.dequantize(), expected)


@pytest.mark.parametrize("ratio", [3.0, 50.0, 500.0, -500.0])
@pytest.mark.parametrize("bits", [4, 8])
def test_far_from_zero_the_zero_point_follows_the_stored_scale(ratio: float, bits: int) -> None:
    weight = noise(8, 400, seed=3) + ratio
    fitted = fit(weight, f"uaq-{bits}")
    own = (weight.double() - fitted.dequantize().double()).abs().pow(2.4).sum(1)
    best = torch.full((8,), torch.inf, dtype=torch.float64)
    scale = fitted.parameters["scale"].double()[:, None]
    for zero in (fitted.parameters["zero"].double() + change for change in range(-12, 13)):
        codes = ((weight.double() / scale).round() + zero[:, None]).clamp(0, 2**bits - 1)
        values = ((codes - zero[:, None]) * scale).float().double()
        best = torch.minimum(best, (weight.double() - values).abs().pow(2.4).sum(1))
    assert (own <= best * 1.03).all()
    spread = float((weight - ratio).square().mean())
    centred = fit(weight - ratio, f"uaq-{bits}")
    assert fitted.mse < 1.5 * max(centred.mse, spread * 1e-9)


@pytest.mark.parametrize("ratio", [2000.0, -20000.0])
@pytest.mark.parametrize("bits", [4, 8])
def test_beyond_the_range_of_zero_points_the_scale_grows_just_enough(ratio: float, bits: int) -> None:
    weight = noise(8, 400, seed=4) + ratio
    least = abs(ratio) / (2**15 - 2**bits)  # a smaller step would need a zero point that 16 bits do not hold
    centred = fit(weight - ratio, f"uaq-{bits}")
    assert fit(weight, f"uaq-{bits}").mse < 1.1 * (centred.mse + least**2 / 12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_channel_is_searched_as_well_whatever_the_others_are(dtype: torch.dtype, bits: int) -> None:
    largest = 1e4 if dtype == torch.float16 else 3e37
    sizes = torch.tensor([largest, 1.0, 1e-2, 1e-2 if dtype == torch.float16 else 1e-9])[:, None]
    weight = noise(4, 256).mul(sizes).to(dtype)
    error = (weight.double() - fit(weight, f"uaq-{bits}").dequantize().double()).square().mean(1)
    alone = torch.tensor([fit(noise(4, 256)[i : i + 1].to(dtype), f"uaq-{bits}").mse for i in range(4)])
    assert (error / sizes[:, 0].double().square() < 1.25 * alone).all()
