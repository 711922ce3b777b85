"""`fit` finds the quantizer, takes a plugin's, and refuses weights that have no values."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from q2.errors import OptionError, Q2Error
from q2.quant import Option, Quantizer, builtin_quantizer, fit
from tests.quant.strategies import noise


class Sign(Quantizer):
    """What a plugin author writes: one scale per channel, one bit."""

    name: ClassVar[str] = "sign"
    max_bits: ClassVar[int] = 1

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        return {"scale": weight.float().flatten(1).abs().mean(1).to(torch.float16 if prec == 16 else torch.float32)}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        return (weight > 0).to(torch.uint8)

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        return (2.0 * codes - 1.0) * parameters["scale"].float().view(-1, *(1,) * (codes.ndim - 1))

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        return prec * shape[0]


def test_a_quantizer_of_ones_own_needs_four_methods() -> None:
    fitted = fit(noise(4, 3, 3, 3), "sign-1", quantizer=Sign())
    assert str(fitted.option) == "sign-1"
    assert fitted.bits == fitted.bits_held == 4 * 27 + 4 * 16
    assert 0 < fitted.mse < 1
    with pytest.raises(OptionError, match="^width 2 of 'sign' is outside 1 to 1$"):
        fit(noise(4, 3), "sign-2", quantizer=Sign())
    with pytest.raises(OptionError, match="^the option 'uaq-2' is not one of the quantizer 'sign'$"):
        fit(noise(4, 3), Option("uaq", 2), quantizer=Sign())


def test_an_option_can_be_text_or_an_option() -> None:
    assert fit(noise(2, 3), "uaq-2").mse == fit(noise(2, 3), Option("uaq", 2)).mse


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("kmean-4", "no quantizer named 'kmean' in 'kmean-4'; did you mean 'kmeans-c'?"),
        (Option("uaqq", 4), "no quantizer named 'uaqq'; did you mean 'uaq'?"),
        ("uaq-9", "width 9 of 'uaq-9' is outside 1 to 8"),
    ],
)
def test_an_unknown_option_names_the_nearest(option: str | Option, message: str) -> None:
    with pytest.raises(OptionError) as error:
        fit(noise(2, 3), option)
    assert str(error.value) == message


def test_an_unknown_builtin_is_an_error() -> None:
    with pytest.raises(OptionError, match="^no quantizer named 'uaqq'; did you mean 'uaq'\\?$"):
        builtin_quantizer("uaqq")


@pytest.mark.parametrize("option", ["uaq-4", "kmeans-c-4", "kmeans-a-4", "none"])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.empty(4, 8, device="meta"), "a layer with a weight of shape (4, 8) has no weights (device meta)"),
        (
            torch.tensor([[1.0, float("nan"), float("inf")]]),
            "a weight of shape (1, 3) holds 2 values that are NaN or infinite",
        ),
        (
            torch.ones(2, 3, dtype=torch.float64),
            "a weight of shape (2, 3) is torch.float64, expected float32, float16 or bfloat16",
        ),
        (torch.ones(3), "a weight of shape (3,) cannot be quantized, expected (output channels, inputs, ...)"),
        (torch.ones(0, 3), "a weight of shape (0, 3) cannot be quantized, expected (output channels, inputs, ...)"),
    ],
)
def test_a_weight_without_values_is_an_error(weight: Tensor, message: str, option: str) -> None:
    with pytest.raises(Q2Error) as error:
        fit(weight, option)
    assert str(error.value) == message


def test_parameters_have_16_or_32_bits() -> None:
    with pytest.raises(OptionError, match="^prec is 8, expected 16 or 32 bits for each parameter$"):
        fit(noise(2, 3), "uaq-4", prec=8)


def test_a_weight_that_requires_gradients_gives_values_that_do_not() -> None:
    weight = torch.nn.Parameter(noise(2, 3))
    for option in ("uaq-4", "kmeans-c-1", "kmeans-a-1", "none"):
        assert not fit(weight, option).dequantize().requires_grad
