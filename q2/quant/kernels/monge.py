"""Row minima of the cost matrix of one-dimensional k-means: one layer of its dynamic program.

The cost of a cluster is Monge, so the best start of a cluster moves up with its stop (Wu, 1991; Ckmeans.1d.dp: Wang and
Song, The R Journal 2011). Stops 8 apart come first, each within the starts of those around it; the 7 in between share
one range of starts and are done together, a lane each.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.vector import (
    LANES,
    Lanes,
    absolute,
    each,
    equal,
    first,
    integers,
    least,
    less,
    load,
    store,
    where,
)

__all__ = ["PAD", "Floats", "Form", "Integers", "Places", "minima"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
PAD = 2 * LANES
"""How much longer than its content an array must be that is loaded by lanes."""


class Form(NamedTuple):
    """What centroids are rounded to: nothing unless `rounds`. Values are centred on `middle`.

    `splitter` is Veltkamp's, `normal` the least normal number, `adder` rounds those below it.
    """

    rounds: bool
    middle: float
    splitter: float
    normal: float
    adder: float


class Places(NamedTuple):
    """Sums over the sorted values before each place: of x and of x^2, centred, and how many there are."""

    total: Floats
    square: Floats
    number: Floats


@compiled
def costs(before: Lanes, total: Lanes, count: Lanes, reciprocal: Lanes, form: Form) -> Lanes:
    """Return lanes of `before` + the cost of a cluster around its centroid, without the sum of its squares."""
    if form.rounds:
        mean = total * reciprocal + each(form.middle)
        scaled = mean * each(form.splitter)
        centroid = scaled - (scaled - mean)
        tiny = (mean + each(form.adder)) - each(form.adder)
        centroid = where(less(absolute(mean), each(form.normal)), tiny, centroid) - each(form.middle)
        cost = before - centroid * (total + total - count * centroid)
    else:
        cost = before - total * total * reciprocal
    return where(less(each(0.0), count), cost, each(np.inf))


@compiled
def minima(
    starts: Places,
    many: int,
    before: Floats,
    stops: Places,
    table: Floats,
    offset: int,
    form: Form,
    bound: float,
    now: Floats,
    split: Integers,
) -> int:
    """Set, for every stop, the least cost in `now` and its start in `split`; return the last stop computed.

    `before` (starts + PAD,), of which the first `many` count, and `now` and `split` (stops + PAD,) are costs without
    the sum of squares up to there. `before` is infinite where no cluster can start, and in its padding. The first stop
    above `bound` is the last one computed. Start s and stop t enclose n = t - s + `offset` values if n is above 0;
    `table` has 1 / |n| at its middle + n, and is empty for values with weights.
    """
    totals, counts, stop_totals, stop_counts, squares = (
        starts.total,
        starts.number,
        stops.total,
        stops.number,
        stops.square,
    )
    last, top, centre = len(stop_totals) - PAD - 1, LANES, len(table) // 2
    while top * 2 <= last:
        top *= 2
    step = top
    while step >= LANES:
        for stop in range(0 if step == top else step, last + 1, step if step == top else 2 * step):
            if stop > last:
                break
            low = split[stop - step] if stop else 0
            high = min(split[stop + step] if step < top and stop + step <= last else many - 1, stop + offset - 1)
            total, count, place = each(stop_totals[stop]), each(stop_counts[stop]), centre - stop - offset
            best, at, index = each(np.inf), each(low), integers(low)
            for start in range(low, high + 1, LANES):
                n = count - load(counts, start)
                reciprocal = load(table, place + start) if len(table) else each(1.0) / n
                cost = costs(load(before, start), total - load(totals, start), n, reciprocal, form)
                better = less(cost, best)
                best, at = where(better, cost, best), where(better, index, at)
                index = index + each(LANES)
            now[stop] = least(best)
            split[stop] = max(low, min(high, first(where(equal(best, each(now[stop])), at, each(high)))))
            if now[stop] + squares[stop] > bound and now[stop] < np.inf:
                last = stop
        step //= 2
    for group in range(0, last, LANES):
        low = split[group]
        high = min(split[group + LANES] if group + LANES <= last else many - 1, group + LANES + offset - 2)
        total, count = load(stop_totals, group), load(stop_counts, group)
        best, at = each(np.inf), each(low)
        for start in range(low, high + 1):
            n = count - each(counts[start])
            reciprocal = load(table, centre + group - start + offset) if len(table) else each(1.0) / n
            cost = costs(each(before[start]), total - each(totals[start]), n, reciprocal, form)
            better = less(cost, best)
            best, at = where(better, cost, best), where(better, each(start), at)
        store(now, group, best)
        store(split, group, at)
    return last
