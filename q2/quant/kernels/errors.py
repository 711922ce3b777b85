"""Errors of a quantized weight, summed in float64: squares, and |x - x'|^2.4, the error that Qua²SeDiMo reports."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from q2.quant.kernels.chunks import each_chunk
from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.vector import LANES, Lanes, each, fifth_root_guess, total, widened

Rows = npt.NDArray[np.float32]
__all__ = ["Errors", "largest_exponent", "measure"]


class Errors(NamedTuple):
    """Of one option of a weight, float64, over the values in the weight's dtype.

    `mse` is the mean of (x - x')^2, `l24` the mean of |x - x'|^2.4, `sqnr_db` 10 log10(sum x^2 / sum (x - x')^2),
    infinite where exact; `quantized_error` the sum over output channels of the channel's mean |x - x'|^2.4
    (Qua2SeDiMo's error for a channel-wise quantizer).
    """

    mse: float
    l24: float
    sqnr_db: float
    quantized_error: float


@compiled
def _power(square: Lanes, one: Lanes, first: Lanes, second: Lanes, third: Lanes) -> Lanes:
    """Return lanes of square^1.2, by two steps of order four towards square^-0.2 (5e-15 in float64)."""
    root = fifth_root_guess(square)
    for _ in range(2):
        twice = root * root
        rest = one - square * (twice * twice * root)
        root = root + root * (rest * (first + rest * (second + rest * third)))
    twice = root * root
    return square * (square * (twice * twice))


@compiled
def _sums(weight: Rows, values: Rows, unit: float) -> tuple[float, float, float]:
    """Return the sums of x^2, (x - x')^2 and |x - x'|^2.4 of two flat arrays, x in units of 1 / `unit`."""
    size = len(weight) // LANES * LANES
    one, first, second, third = each(1.0), each(0.2), each(0.12), each(0.088)
    signals, squares, powers, units = each(0.0), each(0.0), each(0.0), each(unit)
    for i in range(0, size, LANES):
        x = widened(weight, i) * units
        error = x - widened(values, i) * units
        square = error * error
        signals, squares = signals + x * x, squares + square
        powers = powers + _power(square, one, first, second, third)
    signal, squared, powered = total(signals), total(squares), total(powers)
    for i in range(size, len(weight)):
        x = weight[i] * unit
        error = abs(x - values[i] * unit)
        signal, squared, powered = signal + x * x, squared + error * error, powered + error**2.4
    return signal, squared, powered


def measure(weight: Tensor, values: Tensor) -> Errors:
    """Return how far `values` are from `weight`: both (O, ...), of the same shape and dtype.

    >>> import torch
    >>> measure(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 5.0]])).mse
    0.5
    """
    rows, restored = weight.flatten(1).cpu(), values.flatten(1).cpu()  # in threads, and the same sums for any device
    exponent = largest_exponent(weight)  # the powers stay within float32, of which their first guess is made

    def sums(part: slice) -> tuple[float, float, float]:
        one, other = (tensor[part].float().flatten().numpy() for tensor in (rows, restored))
        return _sums(one, other, 2.0**-exponent)

    signal, square, powered = (math.fsum(part) for part in zip(*each_chunk(rows, sums), strict=True))
    ratio = math.inf if square == 0 else -math.inf if signal == 0 else 10 * (math.log10(signal) - math.log10(square))
    square, powered = math.ldexp(square, 2 * exponent), powered * 2.0 ** (2.4 * exponent)
    count = weight.numel()
    return Errors(square / count, powered / count, ratio, powered / rows.shape[1])


def largest_exponent(weight: Tensor) -> int:
    """Return e such that the largest absolute value, in any shape, is in [2^(e-1), 2^e); 0 for a weight of zeros.

    >>> import torch
    >>> largest_exponent(torch.tensor([0.5, -3.0]))
    2
    """
    low, high = weight.aminmax()
    return math.frexp(max(-float(low), float(high)))[1]
