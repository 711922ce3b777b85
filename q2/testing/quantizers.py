"""What every quantizer must do, as tests that its own inherit."""

import math
from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from q2.errors import OptionError
from q2.quant import FittedWeight, Quantizer, quantize_layer
from q2.quant.calibration.normal import Normal
from q2.quant.check import check_quantizer
from q2.quant.packed.layers import pack_layer

__all__ = ["QuantizerSuite"]

SHAPES = ((6, 10), (1, 1), (5, 3, 2), (8, 4, 3, 3), (16, 1, 3, 3))


class QuantizerSuite:
    """Tests of a quantizer: a subclass called ``Test…`` sets `quantizer`, and pytest finds the rest.

    `dtypes` are those of weights in which quantizing a quantized weight again has to change nothing: fewer, or none,
    for a format whose definition does not allow it. `wider_is_better` is false where a wider option may have a greater
    error.
    """

    quantizer: ClassVar[Quantizer]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float16, torch.bfloat16)
    wider_is_better: ClassVar[bool] = True

    def widths(self) -> list[int]:
        """Return every width that is offered."""
        found = []
        for bits in range(self.quantizer.min_bits, self.quantizer.max_bits + 1):
            try:
                self.quantizer.check_width(bits)
            except OptionError:
                continue
            found.append(bits)
        return found

    def weights(self, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """Yield small weights (O, I) and (O, I, H, W): normal, far from zero, few values, outliers, a single value."""
        normal = torch.randn(12, 40, generator=torch.Generator().manual_seed(0))
        few = torch.tensor([[0.0, -0.0, 0.25, -1.5, 3.0, 0.25], [1.0] * 6, [0.0] * 6])
        outliers = normal[:4] * torch.tensor([1.0] * 39 + [30.0])
        conv = normal.reshape(8, 5, 3, 4)
        for weight in (normal * 0.02 + 0.003, normal[:3] + 5, few, outliers, conv, normal[:1, :1]):
            yield weight.to(dtype)

    def fits(self, dtype: torch.dtype = torch.float32) -> Iterator[tuple[Tensor, FittedWeight]]:
        """Yield every weight (O, I, ...) fitted at the smallest, a middle and the largest width, at both precisions."""
        widths = self.widths()
        for weight in self.weights(dtype):
            for bits in {widths[0], widths[len(widths) // 2], widths[-1]}:
                for prec in (16, 32):
                    yield weight, self.quantizer.fit(weight, bits, prec)

    def test_it_does_what_is_asked_where_a_run_names_it(self) -> None:
        """It passes the checks that q2 makes of a plugin's quantizer, and says what it is."""
        check_quantizer(type(self.quantizer), "", self.quantizer.name)
        assert type(self.quantizer).__doc__

    def test_a_width_that_is_not_offered_is_one_line(self) -> None:
        """A width beyond its range is an error that names it."""
        for bits in (0, self.quantizer.max_bits + 1):
            with pytest.raises(OptionError, match=rf"width {bits} of .*{self.quantizer.name}"):
                self.quantizer.fit(torch.ones(2, 2), bits)

    def test_the_size_that_is_predicted_is_the_size_that_is_held(self) -> None:
        """From the shape alone, at every width and precision."""
        for shape in SHAPES:
            weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
            for bits in self.widths():
                for prec in (16, 32):
                    fitted = self.quantizer.fit(weight, bits, prec)
                    stored = sum(8 * parameter.nbytes for parameter in fitted.parameters.values())
                    assert stored == self.quantizer.overhead_bits(shape, bits, prec)
                    assert fitted.bits == fitted.bits_held == math.prod(shape) * bits + stored

    def test_values_are_finite_in_shape_and_dtype_and_errors_are_theirs(self) -> None:
        """The quantized weight is like the weight, and the errors that are reported are its own."""
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            for weight, fitted in self.fits(dtype):
                values = fitted.dequantize()
                assert (values.shape, values.dtype) == (weight.shape, weight.dtype)
                assert torch.isfinite(values).all()
                error = float((weight.double() - values.double()).square().mean())
                assert fitted.mse == pytest.approx(error, rel=1e-9)

    def test_quantizing_the_quantized_weight_changes_nothing(self) -> None:
        """It is idempotent."""
        for dtype in self.dtypes:
            for _, fitted in self.fits(dtype):
                once = fitted.dequantize()
                again = self.quantizer.fit(once, fitted.option.bits, fitted.prec)
                assert torch.equal(again.dequantize(), once), f"{dtype}, {fitted.option}, prec {fitted.prec}"
                assert again.mse == 0

    def test_two_fits_are_the_same_and_leave_the_weight_alone(self) -> None:
        """Neither the weight nor torch's global random numbers change, nor do they matter."""
        for (weight, first), (_, second) in zip(self.fits(), self.fits(), strict=True):
            assert torch.equal(first.codes(), second.codes())
            assert all(torch.equal(first.parameters[key], second.parameters[key]) for key in first.parameters)
            assert torch.equal(weight, first.weight)
        state = torch.get_rng_state()
        self.quantizer.fit(torch.randn(4, 9, generator=torch.Generator()), self.widths()[0])
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_wider_option_has_no_greater_error(self) -> None:
        """On ordinary weights the mean squared error never grows with the width."""
        if self.wider_is_better:
            weight = torch.randn(6, 300, generator=torch.Generator().manual_seed(2))
            errors = [self.quantizer.fit(weight, bits).mse for bits in self.widths()]
            assert errors == sorted(errors, reverse=True)

    def test_a_packed_layer_computes_what_the_simulated_one_does_and_survives_a_file(self) -> None:
        """Codes and parameters are all that a packed layer holds: of the predicted size, and the same from a file."""
        generator = torch.Generator().manual_seed(3)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            for layer, shape in ((nn.Linear(33, 21), (2, 33)), (nn.Conv2d(8, 12, 3, groups=2), (1, 8, 6, 6))):
                layer.to(dtype).requires_grad_(False).weight.copy_(torch.randn(layer.weight.shape, generator=generator))
                for bits in {self.widths()[0], self.widths()[-1]}:
                    fitted = self.quantizer.fit(layer.weight, bits)
                    simulated = quantize_layer(layer, fitted)
                    packed = pack_layer(simulated)
                    assert torch.equal(packed.weight, simulated.weight)
                    x = torch.randn(shape, generator=generator).to(dtype)
                    assert torch.equal(packed(x), simulated(x))
                    held = packed.state_dict()
                    codes = -(-layer.weight.numel() * bits // 8)
                    extra = sum(value.nbytes for name, value in held.items() if name != "bias") - codes
                    assert 8 * extra == self.quantizer.overhead_bits(layer.weight.shape, bits)
                    other = pack_layer(quantize_layer(layer, self.quantizer.fit(layer.weight + 1, bits)))
                    other.load_state_dict(load(save(held)))
                    assert torch.equal(other.weight, simulated.weight)

    def test_its_levels_are_what_codes_stand_for(self) -> None:
        """Where it can be calibrated, `levels` has every code's value, ascending, for each channel or for all."""
        for weight, fitted in self.fits():
            levels = self.quantizer.levels(fitted.parameters, fitted.option.bits)
            if levels is None:
                return
            assert levels.ndim == 2
            assert levels.shape[0] in (1, len(weight))
            assert levels.shape[1] == 2**fitted.option.bits
            assert (levels.double().diff(dim=1) >= 0).all()
            codes = fitted.codes().flatten(1).long()
            stood = levels.expand(len(weight), -1).gather(1, codes).to(weight.dtype)
            assert torch.equal(stood, fitted.dequantize().flatten(1))

    def test_fitting_again_for_given_codes_never_raises_the_output_error(self) -> None:
        """`refit` keeps the form of the parameters, and its levels are at least as good by the normal equations."""
        for weight, fitted in self.fits():
            bits = fitted.option.bits
            before = self.quantizer.levels(fitted.parameters, bits)
            if before is None:
                return
            normal = _normal(weight, fitted.codes(), 2**bits)
            found = self.quantizer.refit(normal, fitted.parameters, bits)
            assert {k: (v.shape, v.dtype) for k, v in found.items()} == {
                k: (v.shape, v.dtype) for k, v in fitted.parameters.items()
            }
            after = self.quantizer.levels(found, bits)
            assert after is not None
            assert _error(normal, after) <= _error(normal, before) + 1e-6 * abs(_error(normal, before))

    def test_the_parameters_that_calibration_starts_from_have_the_same_form(self) -> None:
        """`weighted_parameters` returns what `parameters` does: names, shapes and dtypes, of finite values."""
        widths = self.widths()
        for weight in self.weights():
            importance = torch.linspace(0.1, 2, weight.flatten(1).numel()).view_as(weight.flatten(1))
            plain = self.quantizer.parameters_each(weight, widths, 16)
            weighted = self.quantizer.weighted_parameters(weight, importance, widths, 16)
            for one, other in zip(plain, weighted, strict=True):
                assert {k: (v.shape, v.dtype) for k, v in one.items()} == {
                    k: (v.shape, v.dtype) for k, v in other.items()
                }
                assert all(torch.isfinite(value).all() for value in other.values())


def _normal(weight: Tensor, codes: Tensor, k: int) -> Normal:
    """Return the normal equations of a layer's levels for inputs drawn from a seed, (3 n, n)."""
    rows = weight.flatten(1).double()
    inputs = torch.randn(3 * rows.shape[1], rows.shape[1], generator=torch.Generator().manual_seed(4)).double()
    gram = inputs.T @ inputs
    chosen = nn.functional.one_hot(codes.flatten(1).long(), k).double()
    curvature, pull = chosen.mT @ gram @ chosen, (chosen.mT @ gram @ rows[:, :, None])[:, :, 0]
    return Normal(len(rows), k, lambda part: (curvature[part], pull[part]))


def _error(normal: Normal, levels: Tensor) -> float:
    wide = levels.double().expand(normal.outputs, -1)
    parts = [((a @ wide[p, :, None])[:, :, 0] * wide[p] - 2 * b * wide[p]).sum() for p, a, b in normal.each()]
    return float(torch.stack(parts).sum())
