"""Fitting to outputs: never worse than the plain option on the same rows, and equal to what the definitions say."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from q2.quant import Quantizer, builtin_quantizer, fit
from q2.quant.calibration import on_device
from q2.quant.calibration.fit import fit_outputs
from q2.quant.calibration.gram import pieces
from q2.quant.calibration.problem import Problem
from q2.quant.packed.packing import unpack
from tests.quant.strategies import DTYPES, noise, relaxed, weights

KINDS = ("uaq", "kmeans-c", "kmeans-a")


def problem_of(weight: Tensor, rows: Tensor, channels: tuple[int, int] | None = None) -> Problem:
    return Problem(weight.flatten(1).float(), pieces(rows, weight.shape, 1.0, channels))


def output_error(weight: Tensor, values: Tensor, rows: Tensor) -> float:
    """Return the sum of squares over all outputs, for a weight without groups."""
    return float((rows.double() @ (weight - values.float()).flatten(1).double().T).square().sum())


def correlated(count: int, size: int, seed: int = 0) -> Tensor:
    """Return rows whose inputs differ in energy and go together, as activations do."""
    mixing = noise(size, size, seed=seed + 1) * torch.logspace(0, -2, size)
    return noise(count, size, seed=seed) @ mixing + 0.5


def heavy(count: int, size: int) -> Tensor:
    return noise(count, size).pow(5)


ROWS = {
    "gaussian": noise(64, 12),
    "correlated": correlated(64, 12),
    "heavy-tailed": heavy(64, 12),
    "constant": torch.full((64, 12), 0.75),
    "one row": noise(1, 12),
    "fewer rows than inputs": noise(5, 12),
    "dead inputs": noise(64, 12) * (torch.arange(12) % 3 > 0),
    "zero": torch.zeros(8, 12),
}


@pytest.mark.parametrize("kind", KINDS)
@relaxed
@given(weights(columns=12), st.sampled_from(list(ROWS)), st.integers(1, 8))
def test_no_output_error_is_above_that_of_the_plain_option_on_the_same_rows(
    kind: str, weight: Tensor, name: str, bits: int
) -> None:
    rows = ROWS[name][:, : weight.shape[1]]
    (found,) = fit_outputs(weight, builtin_quantizer(kind), [bits], problem_of(weight, rows))
    plain = fit(weight, f"{kind}-{bits}")
    values, whole = found.restore(weight), weight.float()
    least = 1e-5 * (1e-3 + output_error(whole, torch.zeros_like(whole), rows))
    before, after = (output_error(whole, each, rows) for each in (plain.dequantize(), values))
    assert after <= before + least
    assert found.outputs is not None
    assert found.outputs.error == pytest.approx(after, abs=least)
    assert found.outputs.plain == pytest.approx(before, abs=least)
    assert (values.dtype, values.shape, found.bits_held) == (weight.dtype, weight.shape, plain.bits_held)


@pytest.mark.parametrize(("kind", "bits", "gain"), [("uaq", 3, 3), ("kmeans-c", 3, 4), ("kmeans-a", 3, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_correlated_inputs_gain_decibels_in_every_dtype(kind: str, bits: int, gain: float, dtype: torch.dtype) -> None:
    weight, rows = noise(24, 96, dtype=dtype), correlated(512, 96)
    (found,) = fit_outputs(weight, builtin_quantizer(kind), [bits], problem_of(weight, rows))
    assert found.outputs is not None
    assert 10 * math.log10(found.outputs.plain / found.outputs.error) > gain
    assert found.packed_codes is not None
    codes = unpack(found.packed_codes, bits, weight.numel()).reshape(weight.shape)
    assert torch.equal(found.restore(weight), builtin_quantizer(kind).decode(codes, found.parameters).to(dtype))


def test_the_same_is_fitted_twice_alike_and_whatever_the_width_beside_it() -> None:
    weight, rows = noise(16, 40), correlated(128, 40)
    one, other = (
        fit_outputs(weight, builtin_quantizer("kmeans-c"), widths, problem_of(weight, rows))
        for widths in ([2, 4], [4, 2])
    )
    for mine, again in zip(one, reversed(other), strict=True):
        assert mine.outputs == again.outputs
        assert torch.equal(mine.restore(weight), again.restore(weight))


@pytest.mark.parametrize("kernel", [(3,), (3, 3), (2, 3, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_of_any_kind_loses_what_its_outputs_say(kernel: tuple[int, ...], groups: int) -> None:
    weight, given = noise(8, 4 // groups, *kernel), noise(3, 4, *(5 for _ in kernel), seed=3)
    run = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
    rows = _patches(given, kernel)
    (found,) = fit_outputs(weight, builtin_quantizer("kmeans-c"), [2], problem_of(weight, rows))
    lost = run(given, weight, groups=groups) - run(given, found.restore(weight), groups=groups)
    assert found.outputs is not None
    assert found.outputs.error == pytest.approx(float(lost.double().square().sum()), rel=1e-4)
    assert found.outputs.error < 0.9 * found.outputs.plain
    whole = run(given, weight, groups=groups)
    assert found.outputs.signal == pytest.approx(float(whole.double().square().sum()), rel=1e-4)


def _patches(given: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Return the patches (N, channels * positions) that a convolution with stride 1 sees."""
    for axis, size in enumerate(kernel):
        given = given.unfold(2 + axis, size, 1)
    dims = len(kernel)
    order = (0, *range(2, 2 + dims), 1, *range(2 + dims, 2 + 2 * dims))
    return given.permute(order).flatten(1 + dims).flatten(0, dims)


def test_the_parts_of_a_split_layer_share_its_rows() -> None:
    weight, rows = noise(8, 12, 2, 2), noise(64, 48, seed=4)
    for channels in ((0, 5), (5, 12)):
        part = weight[:, slice(*channels)]
        (found,) = fit_outputs(part, builtin_quantizer("uaq"), [4], problem_of(part, rows, channels))
        mine = rows[:, 4 * channels[0] : 4 * channels[1]]
        assert found.outputs is not None
        assert found.outputs.error == pytest.approx(output_error(part, found.restore(part), mine), rel=1e-4)


def test_long_rows_are_taken_in_blocks_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("q2.quant.calibration.gram.LONGEST", 10)
    weight, rows = noise(6, 8, 3), noise(99, 24)
    found = pieces(rows, weight.shape, 1.0)
    assert [(piece.inputs.start, piece.inputs.stop) for piece in found] == [(0, 6), (6, 15), (15, 24)]
    (fitted,) = fit_outputs(weight, builtin_quantizer("kmeans-c"), [2], Problem(weight.flatten(1), found))
    assert fitted.outputs is not None
    assert fitted.outputs.error < fitted.outputs.plain


@pytest.mark.parametrize("kind", KINDS)
def test_levels_stand_for_the_codes(kind: str) -> None:
    quantizer = builtin_quantizer(kind)
    for dtype, bits in product(DTYPES, (1, 3, 8)):
        fitted = quantizer.fit(noise(5, 300, dtype=dtype), bits)
        levels = quantizer.levels(fitted.parameters, bits)
        assert levels is not None
        codes = torch.arange(2**bits, dtype=torch.uint8).expand(5, -1)
        assert torch.equal(levels.expand(5, -1), quantizer.decode(codes, fitted.parameters).float())
        assert (levels.diff(dim=1) >= 0).all()


def test_another_device_gives_what_the_compiled_loops_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loops of torch, which a GPU runs, on this CPU."""
    weight, rows = noise(12, 300), correlated(900, 300)
    (compiled,) = fit_outputs(weight, builtin_quantizer("kmeans-c"), [3], problem_of(weight, rows))
    monkeypatch.setattr(on_device, "_is_cpu", lambda tensor: False)
    (plain,) = fit_outputs(weight, builtin_quantizer("kmeans-c"), [3], problem_of(weight, rows))
    assert compiled.outputs is not None
    assert plain.outputs is not None
    assert plain.outputs.error == pytest.approx(compiled.outputs.error, rel=0.02)


def test_a_quantizer_without_refit_has_its_codes_calibrated() -> None:
    class Still(type(builtin_quantizer("uaq"))):  # type: ignore[misc]
        refit = Quantizer.refit

    weight, rows = noise(24, 96), correlated(512, 96)
    (found,) = fit_outputs(weight, Still(), [3], problem_of(weight, rows))
    plain = fit(weight, "uaq-3")
    assert {name: tensor.tolist() for name, tensor in found.parameters.items()} == {
        name: tensor.tolist() for name, tensor in plain.parameters.items()
    }
    assert found.outputs is not None
    assert found.outputs.error < found.outputs.plain / 2


def test_a_quantizer_that_says_no_levels_is_fitted_to_the_weight_and_its_output_error_is_known() -> None:
    class Shy(type(builtin_quantizer("uaq"))):  # type: ignore[misc]
        def levels(self, parameters: object, bits: int) -> None:
            return None

    weight, rows = noise(6, 20), noise(50, 20)
    (found,) = fit_outputs(weight, Shy(), [3], problem_of(weight, rows))
    plain = fit(weight, "uaq-3")
    assert torch.equal(found.restore(weight), plain.dequantize())
    assert found.outputs is not None
    assert found.outputs.error == found.outputs.plain
    assert found.outputs.error == pytest.approx(output_error(weight, plain.dequantize(), rows), rel=1e-4)
