"""Targets for layers whose inputs are not full precision's: they solve the least squares that they stand for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from q2.errors import CalibrationError
from q2.quant import builtin_quantizer
from q2.quant.calibration.asymmetric import Asymmetric
from q2.quant.calibration.fit import refit_outputs
from q2.quant.calibration.unfolding import Unfolding
from tests.quant.strategies import noise, relaxed, weights


def drifted(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return inputs at full precision, and what has become of them: moved, mixed and with noise of their own."""
    exact = noise(count, size, seed=seed)
    return exact, exact @ (torch.eye(size) + 0.2 * noise(size, size, seed=seed + 1)) + 0.1 * noise(count, size, seed=7)


def missing(weight: Tensor, values: Tensor, exact: Tensor, now: Tensor) -> float:
    """Return the sum of squares of W x - W' z, over rows."""
    outputs = exact.double() @ weight.flatten(1).double().T - now.double() @ values.flatten(1).double().T
    return float(outputs.square().sum())


def test_without_drift_the_target_is_the_weight_itself() -> None:
    weight, rows = noise(5, 8), noise(64, 8, seed=3)
    for exact in (rows, rows.clone()):
        problem = Asymmetric.of([(exact, rows)], weight.shape).problem(weight)
        assert torch.equal(problem.weight, weight)


def test_the_target_solves_the_damped_least_squares_problem() -> None:
    weight, (exact, now) = noise(5, 8), drifted(64, 8)
    found = Asymmetric.of([(exact[:10], now[:10]), (exact[10:], now[10:])], weight.shape)
    exact, now = exact.double(), now.double()
    moments = now.T @ now / 64
    mean = moments.diagonal().mean()
    damping = (0.1 + 0.001 + 0.01) * mean  # a tenth of the damped mean, and the hundredth that every H gets
    drift = (exact - now).T @ now / 64
    step = torch.linalg.solve(moments + damping * torch.eye(8), drift.T).T
    expected = weight.double() @ (torch.eye(8) + step)
    assert torch.allclose(found.problem(weight).weight.double(), expected, rtol=1e-5, atol=1e-6)
    assert missing(weight, expected, exact, now) < 0.3 * missing(weight, weight, exact, now)


def test_groups_and_parts_of_a_convolution_have_targets_of_their_own() -> None:
    weight, other = noise(6, 2, 3), noise(6, 4, 3, seed=2)
    layers = [torch.nn.Conv1d(4, 6, 3, groups=2), torch.nn.Conv1d(8, 6, 3)]
    exact, now = noise(3, 8, 9, seed=4), noise(3, 8, 9, seed=5)
    grouped, split = (
        [Unfolding.of(layer).take(x[:, : layer.in_channels], torch.arange(21)) for x in (exact, now)]
        for layer in layers
    )
    found = Asymmetric.of([(grouped[0], grouped[1])], weight.shape).problem(weight).weight
    for group in range(2):
        rows, part = slice(3 * group, 3 * group + 3), slice(6 * group, 6 * group + 6)
        alone = Asymmetric.of([(grouped[0][:, part], grouped[1][:, part])], (3, 2, 3)).problem(weight[rows])
        assert torch.allclose(found[rows], alone.weight, rtol=1e-5, atol=1e-6)
    half = Asymmetric.of([(split[0], split[1])], other.shape, (4, 8)).problem(other).weight
    rows12 = [each[:, 12:] for each in split]
    assert torch.equal(half, Asymmetric.of([(rows12[0], rows12[1])], other.shape).problem(other).weight)


def test_rows_that_are_not_finite_or_of_another_length_are_refused() -> None:
    bad = torch.full((4, 8), torch.nan)
    with pytest.raises(CalibrationError, match="not finite"):
        Asymmetric.of([(bad, bad)], (5, 8))
    with pytest.raises(CalibrationError, match="rows of 8 inputs do not fit a weight of shape"):
        Asymmetric.of([(noise(4, 8), noise(4, 8))], (5, 3))


@pytest.mark.parametrize("kind", ["uaq", "kmeans-c", "kmeans-a"])
@relaxed
@given(weights(columns=12), st.integers(1, 8), st.sampled_from([0.0, 1.0]))
def test_a_fit_made_again_is_never_worse_than_the_one_that_was_there(
    kind: str, weight: Tensor, bits: int, drift: float
) -> None:
    exact, now = drifted(40, weight.flatten(1).shape[1])
    now = exact + drift * (now - exact)
    before = builtin_quantizer(kind).fit(weight, bits)
    problem = Asymmetric.of([(exact, now)], weight.shape).problem(weight)
    found, old, new = refit_outputs(weight, before.without_weight(), before.dequantize(), problem)
    assert new <= old
    values = found.restore(weight)
    assert values.dtype == weight.dtype
    assert found.before.parameters is before.parameters
    own = float(problem.errors(values.flatten(1).float()).sum())
    assert own == pytest.approx(new, rel=1e-6, abs=1e-30)
    assert torch.equal(builtin_quantizer(kind).restore(values, found.parameters, bits), values)
    assert found.bits_held == before.bits_held


def test_a_convolution_fitted_again_puts_out_more_of_what_it_did_at_full_precision() -> None:
    weight, exact = noise(6, 4, 3), noise(8, 4, 20, seed=1)
    now = exact + 0.3 * noise(8, 4, 20, seed=2) + 0.2 * exact.roll(1, 1)
    unfolding = Unfolding.of(torch.nn.Conv1d(4, 6, 3))
    rows = [unfolding.take(x, torch.arange(unfolding.count(x))) for x in (exact, now)]
    before = builtin_quantizer("kmeans-c").fit(weight, 3)
    problem = Asymmetric.of([(rows[0], rows[1])], weight.shape).problem(weight)
    found, *_ = refit_outputs(weight, before.without_weight(), before.dequantize(), problem)
    wanted = F.conv1d(exact, weight)
    error = [(F.conv1d(now, values) - wanted).square().sum() for values in (before.dequantize(), found.restore(weight))]
    assert error[1] < 0.8 * error[0]
