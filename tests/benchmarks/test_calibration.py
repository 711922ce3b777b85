"""Textbook GPTQ, which calibrated options are compared with: it does what its paper says, and no less well."""

import importlib
from typing import Any

import pytest
import torch

from q2.quant import builtin_quantizer
from q2.quant.calibration.fit import fit_outputs
from q2.quant.calibration.gram import pieces
from q2.quant.calibration.problem import Problem
from tests.quant.strategies import noise

calibration: Any = importlib.import_module("benchmarks.calibration")


@pytest.mark.parametrize("bits", [3, 4])
def test_gptq_is_better_than_rounding_to_nearest_and_no_better_than_the_calibrated_option(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    weight, rows = noise(48, 160, seed=bits), calibration.activations(512, 160, generator)
    (part,) = pieces(rows, weight.shape, 1 / len(rows))
    whole, moments = Problem(weight, [part]), calibration.undamped(part.gram)
    for kind in calibration.QUANTIZERS:
        quantizer = builtin_quantizer(kind)
        (plain,) = quantizer.fit_each(weight, [bits])
        (mine,) = fit_outputs(weight, quantizer, [bits], whole)
        values = calibration.gptq(weight, moments, calibration.to_levels(calibration.levels_of(plain)))
        assert mine.outputs is not None
        theirs = float(whole.errors(values).sum())
        assert mine.outputs.error <= theirs < 0.9 * mine.outputs.plain
    nearest = calibration.grid(weight, bits)
    rounded = torch.stack([nearest(column) for column in weight.T], 1)
    on_grid = float(whole.errors(calibration.gptq(weight, moments, nearest)).sum())
    assert on_grid < 0.9 * float(whole.errors(rounded).sum())


def test_gptq_of_two_inputs_by_hand() -> None:
    """The first column, 0.4, becomes 0; the second takes H12 / (H22 + damping) of what that lost."""
    moments, levels = torch.tensor([[4.0, 1.0], [1.0, 2.0]]), torch.tensor([[0.0, 1.0]])
    nearest = calibration.to_levels(levels)
    damping = 0.01 * 3
    just = 0.5 - 0.4 / (2 + damping)
    for second, code in ((just + 1e-3, 1.0), (just - 1e-3, 0.0)):
        found = calibration.gptq(torch.tensor([[0.4, second]]), moments, nearest)
        assert found.tolist() == [[0.0, code]]
    swapped = calibration.gptq(torch.tensor([[just + 1e-3, 0.4]]), moments.flip(0, 1), nearest)
    assert swapped.tolist() == [[1.0, 0.0]]


def test_without_correlations_gptq_rounds_to_nearest_also_dead_inputs_and_blocks() -> None:
    weight, levels = noise(4, 300), torch.tensor([[-1.0, 0.0, 0.5, 1.0]])
    nearest = calibration.to_levels(levels)
    moments = torch.linspace(1, 2, 300)
    moments[::7] = 0
    found = calibration.gptq(weight, moments.diag(), nearest)
    rounded = levels[0][(weight[:, :, None] - levels[0]).abs().argmin(2)]
    rounded[:, ::7] = 0
    assert torch.equal(found, rounded)


def test_the_moments_that_errors_are_counted_with_are_those_of_the_rows() -> None:
    rows = noise(64, 12) * torch.linspace(0.1, 3, 12)
    (piece,) = pieces(rows, (5, 12), 1 / 64)
    torch.testing.assert_close(calibration.undamped(piece.gram), rows.T @ rows / 64, atol=1e-5, rtol=1e-5)
