"""Finds the scale and zero point of every channel: the search of ``uaq``.

It minimizes the channel's sum of |x - x'|^2.4, over scales as they are stored and values as the layer will hold them.
"""

import math

import numpy as np

from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.monge import Form
from q2.quant.kernels.optimal import Rows, rounded
from q2.quant.kernels.vector import (
    LANES,
    Lanes,
    absolute,
    each,
    fifth_root_guess,
    less,
    load,
    nearest,
    store,
    total,
    where,
)

__all__ = ["requantize", "search_rows"]

_STEPS = (0.05, 0.025, 0.0125)
_ORDER = (2, 1, 3, 0, 4, 5, 6, 7, 8, 9)  # the likely ones first: the others are given up half-way
_LANES = 2 * LANES
_CHUNK = 16 * _LANES


@compiled
def _codes(x: Lanes, scale: Lanes, low: Lanes, high: Lanes) -> Lanes:
    """Return lanes of code - zero, which is `low` to `high`."""
    code = nearest(x / scale)
    return where(less(code, low), low, where(less(high, code), high, code))


@compiled
def _levels(x: Lanes, scale: Lanes, low: Lanes, high: Lanes, form: Form) -> Lanes:
    """Return lanes of x' = scale * (code - zero), as the layer will hold them."""
    value = _codes(x, scale, low, high) * scale
    if form.rounds:
        scaled = value * each(np.float32(form.splitter))
        adder = each(np.float32(form.adder))
        tiny = less(absolute(value), each(np.float32(form.normal)))
        value = where(tiny, (value + adder) - adder, scaled - (scaled - value))
    return value


@compiled
def _power(square: Lanes) -> Lanes:
    """Return float32 lanes of square^1.2, to 5e-6: one step of order six towards square^-0.2."""
    root = fifth_root_guess(square)
    twice = root * root
    rest = each(np.float32(1)) - square * (twice * twice * root)
    series = each(np.float32(0.0704)) + rest * each(np.float32(0.059136))
    series = each(np.float32(0.12)) + rest * (each(np.float32(0.088)) + rest * series)
    root = root + root * (rest * (each(np.float32(0.2)) + rest * series))
    twice = root * root
    return square * (square * (twice * twice))


@compiled
def _error(row: Rows, mask: Rows, size: int, scale: float, zero: float, top: int, form: Form, enough: float) -> float:
    """Return the sum of |x - x'|^2.4, or infinity as soon as it is above `enough`."""
    scales, low, high = each(np.float32(scale)), each(np.float32(-zero)), each(np.float32(top - zero))
    error, tiny = 0.0, each(np.float32(1e-35))  # of 0, the powers in between would leave float32
    for chunk in range(0, size, _CHUNK):
        sums = each(np.float32(0.0))
        for i in range(chunk, min(chunk + _CHUNK, size), _LANES):
            x = load(row, i)
            rest = x - _levels(x, scales, low, high, form)
            if i + _LANES > size:
                rest = rest * load(mask, 0)
            square = rest * rest
            sums = sums + _power(where(less(square, tiny), tiny, square))
        error += total(sums)
        if error > enough:
            return np.inf
    return error


@compiled
def _stored(scale: float, stored: Form, least: float, most: float) -> float:
    return rounded(min(max(scale, least), most), stored)


@compiled
def _follow(
    row: Rows,
    mask: Rows,
    size: int,
    channel: tuple[float, float, int, int],
    forms: tuple[Form, Form],
    bounds: tuple[float, float],
    found: tuple[float, float, float, float],
) -> tuple[float, float, float]:
    """Better the error, scale and zero point `found`, at a factor, by zero points that follow from scales as stored.

    Rounding a scale moves levels that are far from zero by whole steps. Levels lie around the channel's middle, and no
    scale is so small that its zero point would be out of range.
    """
    middle, width, top, limit = channel
    form, stored = forms
    best, scale, zero, factor = found
    floor = abs(middle) * (1 + (stored.splitter - 1) * 2.0**-52) / (limit - top)
    for step in (0.0, *_STEPS):
        start = factor
        for i in range(2 if step else 10):
            change = start + (2 * i - 1) * step if step else 1 - i / 10
            tried = _stored(max(width * change, floor), stored, bounds[0], bounds[1])
            place = float(np.rint(min(max(top / 2 - middle / tried, -limit), limit)))
            error = _error(row, mask, size, tried, place, top, form, best)
            if error < best:
                best, scale, zero, factor = error, tried, place, change
    for side in (-1.0, 1.0):
        while abs(zero + side) <= limit:
            error = _error(row, mask, size, scale, zero + side, top, form, best)
            if error >= best:
                break
            best, zero = error, zero + side
    return best, scale, zero


@compiled
def _search(
    row: Rows, mask: Rows, size: int, top: int, limit: int, form: Form, stored: Form, least: float, most: float
) -> tuple[float, float]:
    """Return scale and zero point of a channel: the best of the reference's ten, bettered in ever finer steps."""
    low, high = float(np.min(row[:size])), float(np.max(row[:size]))
    middle, width = (low + high) / 2, (high - low) / top
    # A single level at the middle: all there is for a constant channel, and for one too far from zero for a grid.
    level, side = _stored(abs(middle) if middle else 1.0, stored, least, most), 1.0 if middle < 0 else 0.0
    if width <= 0:
        return level, side
    offset = min(max(-low / width, -limit), limit)
    best, scale, zero, factor, around = np.inf, level, side, 1.0, float(np.rint(offset))
    for i in _ORDER:
        tried = _stored(width * (1 - i / 10), stored, least, most)
        error = _error(row, mask, size, tried, around, top, form, best)
        if error < best:
            best, scale, zero, factor = error, tried, around, 1 - i / 10
    other = float(np.floor(offset)) if around > offset else float(np.ceil(offset))
    for step in (0.0, *_STEPS):
        start, kept = factor, zero
        for change in (-step, step):
            tried, place = _stored(width * (start + change), stored, least, most), kept if step else other
            error = _error(row, mask, size, tried, place, top, form, best)
            if error < best:
                best, scale, zero, factor = error, tried, place, start + change
    channel = middle, width, top, limit
    best, scale, zero = _follow(row, mask, size, channel, (form, stored), (least, most), (best, scale, zero, factor))
    if _error(row, mask, size, level, side, top, form, best) < best:
        return level, side
    return scale, zero


@compiled
def _in_units(form: Form, unit: int) -> Form:
    """Return the form for values in units of 2^`unit`."""
    return Form(form.rounds, form.middle, form.splitter, math.ldexp(form.normal, -unit), math.ldexp(form.adder, -unit))


@compiled
def search_rows(
    rows: Rows, top: int, limit: int, form: Form, stored: Form, least: float, most: float, scales: Rows, zeros: Rows
) -> None:
    """Fill `scales` and `zeros` (C,) for float32 `rows` (C, n): codes 0 to `top`, zero points up to +-`limit`.

    `form` says how values are rounded, in float32; `stored` how scales are, which lie from `least` to `most`.
    """
    many, size = rows.shape
    row, mask = np.zeros(size + _LANES, np.float32), np.zeros(_LANES, np.float32)
    mask[: size % _LANES] = 1.0
    for c in range(many):
        largest = max(abs(float(np.min(rows[c]))), abs(float(np.max(rows[c]))))
        unit = max(-120, min(120, math.frexp(largest)[1]))
        if abs(unit) < 30:
            row[:size] = rows[c]
            scales[c], zeros[c] = _search(row, mask, size, top, limit, form, stored, least, most)
        else:  # far from 1, |x|^2.4 leaves float32
            for i in range(size):
                row[i] = math.ldexp(float(rows[c, i]), -unit)
            bounds = math.ldexp(least, -unit), math.ldexp(most, -unit)
            forms = _in_units(form, unit), _in_units(stored, unit)
            scale, zeros[c] = _search(row, mask, size, top, limit, *forms, *bounds)
            scales[c] = math.ldexp(scale, unit)


@compiled
def requantize(
    rows: Rows, scales: Rows, zeros: Rows, top: int, shifts: Rows, factors: Rows, largest: float, out: Rows
) -> None:
    """Fill `out` (C, n) with (code - zero + shift) * factor for float32 `rows` (C, n): values, or codes themselves.

    Nothing goes beyond +-`largest`.
    """
    for c in range(rows.shape[0]):
        values, result, size = rows[c], out[c], rows.shape[1] // _LANES * _LANES
        least, most = -zeros[c], np.float32(top) - zeros[c]
        scale, low, high, shift, factor = each(scales[c]), each(least), each(most), each(shifts[c]), each(factors[c])
        below, above = each(np.float32(-largest)), each(np.float32(largest))
        for i in range(0, size, _LANES):
            value = (_codes(load(values, i), scale, low, high) + shift) * factor
            value = where(less(value, below), below, where(less(above, value), above, value))
            store(result, i, value)
        for i in range(size, len(values)):
            value = (min(max(np.rint(values[i] / scales[c]), least), most) + shifts[c]) * factors[c]
            result[i] = min(max(value, -largest), largest)
