"""Exact k-means of millions of sorted values: first narrow down where the borders between clusters can be.

The values are cut into bins. A partition whose borders lie in given bins costs at least what the whole bins between
them cost, which is again a Monge problem, over bins. Bins for which this bound, from both ends, is above the cost of a
codebook already known hold no border of the optimum. What is left is a few percent, and solved exactly.
"""

from collections.abc import Sequence

import numpy as np
import torch

from q2.quant.kernels.chunks import in_threads
from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.monge import PAD, Floats, Form, Integers, Places, minima
from q2.quant.kernels.optimal import (
    Rows,
    best_ends,
    centroids,
    cluster,
    form_of,
    guess,
    improve,
    mirrored,
    reversed_sums,
    room,
    sums,
)

__all__ = ["cluster_many"]

_TABLE = 1 << 19  # bins x layers of the bounds
_COARSE = 2048
_MANY = 1 << 16


def cluster_many(flat: Rows, ks: Sequence[int], dtype: torch.dtype) -> list[Floats]:
    """Return for each of `ks` the best codebook (k,), ascending, of the numbers in `flat` (n,), in any order.

    >>> cluster_many(np.array([9.0, 0.0, 1.0], np.float32), [2], torch.float16)[0].tolist()
    [0.5, 9.0]
    """
    ordered = np.sort(flat)
    fresh = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if len(fresh) < _MANY:
        counts = np.diff(fresh, append=len(ordered)).astype(np.float64)
        return cluster(ordered[fresh].astype(np.float64) + 0.0, counts, ks, dtype)
    values = ordered.astype(np.float64)
    form = form_of(dtype)._replace(middle=float(np.mean(values)))
    places, found = _narrowed(values, form, ks)
    books = [np.empty(k) for k in ks]
    for book, ends in zip(books, found, strict=True):
        centroids(values, places, form, ends, book)
    return books


def _narrowed(values: Floats, form: Form, ks: Sequence[int]) -> tuple[Places, list[Integers]]:
    """Return the sums over ascending `values` (n,), and for each of `ks` where the best k clusters start, and n."""
    places = room(len(values))
    sums(values, np.empty(0), form.middle, places)
    known = [_known(values, places, form, k) for k in ks]
    edges = _edges(values, max(_TABLE // max(ks), 8 * max(ks)))
    bins = _at(places, edges)
    other = room(len(edges) - 1)
    reversed_sums(bins, other)
    bounds = [np.empty((max(ks), len(edges))) for _ in range(2)]
    sides = ((bins, form, bounds[0]), (other, mirrored(form), bounds[1]))
    in_threads([slice(0, 1), slice(1, 2)], lambda part: _lower_bounds(*sides[part.start]))
    found = []
    for k, (ends, cost) in zip(ks, known, strict=True):
        low, high = np.zeros(k + 1, np.int64), np.full(k + 1, len(values))
        high[0], low[k] = 0, len(values)
        _windows(bounds[0], bounds[1], edges, cost, low, high)
        found.append(_within(places, form, low, high, ends))
    return places, found


def _known(values: Floats, places: Places, form: Form, k: int) -> tuple[Integers, float]:
    """Return a good partition, and slightly more than it costs."""
    edges = _edges(values, max(_COARSE, 8 * k))
    coarse = guess(len(edges) - 1, np.array([k]))
    best_ends(_at(places, edges), np.empty(0), form, np.array([k]), np.full((k + 1) // 2 + 1, np.inf), coarse)
    ends = edges[coarse[0]]
    cost = np.inf
    for _ in range(50):
        previous, cost = cost, improve(values, places, form, ends)
        if cost >= previous * (1 - 1e-9):
            break
    return ends, min(cost, previous) * (1 + 1e-9) + 1e-12 * places.square[len(values)]


def _edges(values: Floats, bins: int) -> Integers:
    """Cut into about `bins` bins: half of them of as many values each, half as wide as each other, for long tails."""
    even = np.linspace(0, len(values), bins // 2 + 1).astype(np.int64)
    wide = np.searchsorted(values, np.linspace(values[0], values[-1], bins // 2 + 1))
    return np.unique(np.concatenate([even, wide]))


def _at(places: Places, edges: Integers) -> Places:
    padded = np.concatenate([edges, np.full(PAD, edges[-1])])
    return Places(*(part[padded] for part in places))


@compiled
def _lower_bounds(bins: Places, form: Form, bounds: Floats) -> None:
    """Fill ``bounds[j, b]`` with the least that the values below bin b cost in j clusters, one bin dropped at a border.

    A start at edge s > 0 comes after a border in the bin below s, hence from what was reached at s - 1.
    """
    size = len(bins.total) - PAD
    before, now = np.full(size + PAD, np.inf), np.empty(size + PAD)
    split = np.empty(size + PAD, np.int64)
    before[0] = 0.0
    for j in range(1, len(bounds)):
        now[:] = np.inf
        minima(bins, size, before, bins, np.empty(0), 0, form, np.inf, now, split)
        for b in range(size):
            bounds[j, b] = max(0.0, now[b] + bins.square[b])
            if b and j > 1:
                bounds[j, b] = min(bounds[j, b], bounds[j - 1, b - 1])  # a cluster may lie within a bin
        bounds[j, 0] = 0.0
        before[0] = np.inf
        for s in range(1, size):
            before[s] = bounds[j, s - 1] - bins.square[s]


@compiled
def _windows(below: Floats, above: Floats, edges: Integers, cost: float, low: Integers, high: Integers) -> None:
    """Set between which places every border must lie."""
    k, many = len(low) - 1, len(edges) - 1
    for i in range(1, k):
        least, most = many, 0
        for b in range(many):
            if below[i, b] + above[k - i, many - b - 1] <= cost:
                least, most = min(least, b), max(most, b)
        low[i], high[i] = edges[least], edges[most + 1]


def _within(places: Places, form: Form, low: Integers, high: Integers, ends: Integers) -> Integers:
    """Solve exactly with border i between ``low[i]`` and ``high[i]``."""
    now, splits = np.full(1 + PAD, np.inf), []
    now[0] = 0.0
    for i in range(1, len(low)):
        starts, stops = (_part(places, low[j], high[j]) for j in (i - 1, i))
        before, now = now, np.full(high[i] - low[i] + 1 + PAD, np.inf)
        split = np.zeros(len(now), np.int64)
        offset = int(low[i] - low[i - 1])
        many = int(high[i - 1] - low[i - 1]) + 1
        minima(starts, many, before, stops, np.empty(0), offset, form, np.inf, now, split)
        splits.append(split)
    for i in range(len(low) - 1, 1, -1):
        ends[i - 1] = low[i - 1] + splits[i - 1][ends[i] - low[i]]
    return ends


def _part(places: Places, low: int, high: int) -> Places:
    return Places(*(part[low : high + 1 + PAD] for part in places))
