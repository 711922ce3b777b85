"""The exact optimum of one-dimensional k-means over sorted values.

The best codebook of k is the best of h for the values below some place with the best of k - h for those above it, so
the dynamic program runs from both ends and meets half-way: no prefix is looked at that alone costs more than a
codebook already known, which halves the work. Centroids are restricted to the numbers that a float format can hold. The
cost stays Monge under that restriction, so the result is the global optimum among *stored* codebooks, not a rounded
optimum.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from q2.quant.kernels.chunks import in_blocks
from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.monge import PAD, Floats, Form, Integers, Places, minima

__all__ = [
    "best_ends",
    "centroids",
    "cluster",
    "cluster_rows",
    "exact",
    "form_of",
    "guess",
    "improve",
    "mirrored",
    "reversed_sums",
    "room",
    "rounded",
    "sums",
]

Rows = npt.NDArray[np.float32]
Work = tuple[Places, Floats, Integers, Floats, Integers]  # sums in reverse; costs and starts, from below and from above


def form_of(dtype: torch.dtype) -> Form:
    """Return what the kernels need to round to `dtype`; at float32 nothing that they could tell from float64."""
    info = torch.finfo(dtype)
    splitter, adder = info.eps * 2.0**52 + 1.0, info.smallest_normal * info.eps * 1.5 * 2.0**52
    return Form(dtype != torch.float32, 0.0, splitter, info.smallest_normal, adder)


@compiled
def rounded(x: float, form: Form) -> float:
    """Return the number nearest to x that the form can hold."""
    if abs(x) < form.normal:
        return (x + form.adder) - form.adder
    scaled = x * form.splitter
    return scaled - (scaled - x)


@compiled
def room(size: int) -> Places:
    """Return places for the sums over `size` values, not filled."""
    length = size + 1 + PAD
    return Places(np.empty(length), np.empty(length), np.empty(length))


@compiled
def sums(values: Floats, counts: Floats, middle: float, places: Places) -> None:
    """Fill `places` from ascending values (n,), each repeated `counts` (n,) times, or once if `counts` is empty."""
    size = len(values)
    places.total[0] = places.square[0] = places.number[0] = 0.0
    for i in range(size):
        times = counts[i] if len(counts) else 1.0
        x = values[i] - middle
        places.total[i + 1] = places.total[i] + times * x
        places.square[i + 1] = places.square[i] + times * x * x
        places.number[i + 1] = places.number[i] + times
    for i in range(size + 1, size + 1 + PAD):
        places.total[i], places.square[i], places.number[i] = (
            places.total[size],
            places.square[size],
            places.number[size],
        )


@compiled
def reversed_sums(places: Places, other: Places) -> None:
    """Fill `other` with the sums of the same values negated, hence in reverse."""
    size = len(places.total) - PAD - 1
    for i in range(size + 1):
        other.total[i] = places.total[size - i] - places.total[size]
        other.square[i] = places.square[size] - places.square[size - i]
        other.number[i] = places.number[size] - places.number[size - i]
    for i in range(size + 1, size + 1 + PAD):
        other.total[i], other.square[i], other.number[i] = other.total[size], other.square[size], other.number[size]


@compiled
def improve(values: Floats, places: Places, form: Form, ends: Integers) -> float:
    """Return the cost of a partition of `values` (n,), and move its `ends` (k + 1,) half-way between the centroids.

    This is a step of Lloyd's algorithm.
    """
    k, cost, previous = len(ends) - 1, 0.0, -np.inf
    for j in range(k):
        start, stop = ends[j], ends[j + 1]
        n = places.number[stop] - places.number[start]
        if n > 0:
            total = places.total[stop] - places.total[start]
            mean = total / n + form.middle
            centroid = rounded(mean, form) if form.rounds else mean
            if previous > -np.inf:
                ends[j] = np.searchsorted(values, (previous + centroid) / 2)
            previous, centroid = centroid, centroid - form.middle
            square = places.square[stop] - places.square[start]
            cost += square - centroid * (2.0 * total - n * centroid)
    return cost


@compiled
def _from_below(places: Places, table: Floats, form: Form, bounds: Floats, now: Floats, split: Integers) -> None:
    """Fill layer j of `now` and `split` with the best j clusters below every place; none dearer than ``bounds[j]``."""
    now[:, :] = np.inf
    now[0, 0] = 0.0
    last = 0
    for j in range(1, len(bounds)):
        last = minima(places, last + 1, now[j - 1], places, table, 0, form, bounds[j], now[j], split[j])


@compiled
def _meet(
    places: Places, lower: Floats, upper: Floats, lower_split: Integers, upper_split: Integers, h: int, ends: Integers
) -> None:
    """Find the best place between h clusters below and k - h above, and set the `ends` of all k."""
    size, k = len(places.total) - PAD - 1, len(ends) - 1
    squares = places.square[size]
    best, place = np.inf, 0
    for i in range(size + 1):
        cost = lower[h, i] + upper[k - h, size - i] + squares
        if cost < best:
            best, place = cost, i
    ends[0], ends[h], ends[k] = 0, place, size
    for j in range(h, 1, -1):
        ends[j - 1] = lower_split[j, ends[j]]
    for j in range(k - h, 1, -1):
        ends[k - j + 1] = size - upper_split[j, size - ends[k - j]]


@compiled
def centroids(values: Floats, places: Places, form: Form, ends: Integers, codebook: Floats) -> None:
    """Fill the codebook (k,) with the rounded means of the clusters of `values` (n,) that start at `ends` (k + 1,)."""
    for j in range(len(codebook)):
        start, stop = ends[j], ends[j + 1]
        mean = (places.total[stop] - places.total[start]) / (places.number[stop] - places.number[start]) + form.middle
        codebook[j] = rounded(min(max(mean, values[start]), values[stop - 1]), form)


@compiled
def exact(values: Floats, form: Form, codebook: Floats) -> bool:
    """Fill the codebook (k,) with the distinct ones of `values` (n,) if these are at most k; return if they are."""
    k, distinct = len(codebook), 0
    for i in range(len(values)):
        if i == 0 or values[i] != values[i - 1]:
            if distinct < k:
                codebook[distinct] = rounded(values[i], form)
            distinct += 1
            if distinct > k:
                return False
    codebook[distinct:] = codebook[distinct - 1]
    return True


@compiled
def mirrored(form: Form) -> Form:
    """Return the form for the same values negated."""
    return Form(form.rounds, -form.middle, form.splitter, form.normal, form.adder)


@compiled
def _solve(places: Places, table: Floats, form: Form, ks: Integers, bounds: Floats, ends: Integers, work: Work) -> None:
    other, now, split, upper, upper_split = work
    reversed_sums(places, other)
    _from_below(places, table, form, bounds, now, split)
    _from_below(other, table, mirrored(form), bounds, upper, upper_split)
    for i in range(len(ks)):
        _meet(places, now, upper, split, upper_split, (ks[i] + 1) // 2, ends[i, : ks[i] + 1])


@compiled
def best_ends(places: Places, table: Floats, form: Form, ks: Integers, bounds: Floats, ends: Integers) -> None:
    """Set row i of `ends` (ks, largest k + 1) to the starts of the best ``ks[i]`` clusters, and the end.

    `bounds` are as in `_from_below`.
    """
    _solve(places, table, form, ks, bounds, ends, _workspace(len(places.total) - PAD - 1, len(bounds) - 1))


@compiled
def _cluster(
    values: Floats,
    counts: Floats,
    table: Floats,
    form: Form,
    ks: Integers,
    ends: Integers,
    places: Places,
    work: Work,
    codebooks: Floats,
) -> None:
    """Fill ``codebooks[i, :ks[i]]``. `ends` holds good guesses of the partitions, and then the best ones."""
    form = Form(form.rounds, float(np.mean(values)), form.splitter, form.normal, form.adder)
    sums(values, counts, form.middle, places)
    bounds = np.zeros((np.max(ks) + 1) // 2 + 1)
    for i in range(len(ks)):
        k = ks[i]
        for _ in range(4):
            improve(values, places, form, ends[i, : k + 1])
        cost = improve(values, places, form, ends[i, : k + 1])
        half = (k + 1) // 2 + 1
        bounds[:half] = np.maximum(bounds[:half], cost * (1 + 1e-9) + 1e-12 * places.square[len(values)])
    _solve(places, table, form, ks, bounds, ends, work)
    for i in range(len(ks)):
        if not exact(values, form, codebooks[i, : ks[i]]):
            centroids(values, places, form, ends[i, : ks[i] + 1], codebooks[i, : ks[i]])


@compiled
def _workspace(size: int, layers: int) -> Work:
    length, other = size + 1 + PAD, room(size)
    now, split = np.empty((layers + 1, length)), np.zeros((layers + 1, length), np.int64)
    upper, upper_split = np.empty((layers + 1, length)), np.zeros((layers + 1, length), np.int64)
    return other, now, split, upper, upper_split


@compiled
def guess(size: int, ks: Integers) -> Integers:
    """Return partitions into clusters of as many places each, (number of ks, largest k + 1)."""
    ends = np.zeros((len(ks), np.max(ks) + 1), np.int64)
    for i in range(len(ks)):
        for j in range(ks[i] + 1):
            ends[i, j] = size * j // ks[i]
    return ends


@compiled
def _cluster_rows(rows: Rows, form: Form, ks: Integers, codebooks: Floats) -> None:
    many, size = rows.shape
    table = 1.0 / np.abs(np.arange(-size - PAD, size + PAD + 1)).astype(np.float64)
    places = room(size)
    work, ends, none = _workspace(size, int(np.max(ks) + 1) // 2), guess(size, ks), np.empty(0)
    for row in range(many):
        _cluster(rows[row].astype(np.float64), none, table, form, ks, ends, places, work, codebooks[row])


@compiled
def _cluster_weighted(rows: Rows, weights: Floats, form: Form, ks: Integers, codebooks: Floats) -> None:
    many, size = rows.shape
    places = room(size)
    work, ends, table = _workspace(size, int(np.max(ks) + 1) // 2), guess(size, ks), np.empty(0)
    for row in range(many):
        order = np.argsort(rows[row])
        values, counts = rows[row][order].astype(np.float64), weights[row % len(weights)][order]
        _cluster(values, counts, table, form, ks, ends, places, work, codebooks[row])


@compiled
def _cluster_one(values: Floats, counts: Floats, form: Form, ks: Integers, codebooks: Floats) -> None:
    size = len(values)
    places = room(size)
    work, ends = _workspace(size, int(np.max(ks) + 1) // 2), guess(size, ks)
    _cluster(values, counts, np.empty(0), form, ks, ends, places, work, codebooks)


def cluster(values: Floats, counts: Floats, ks: Sequence[int], dtype: torch.dtype) -> list[Floats]:
    """Return for each of `ks` the best codebook (k,), ascending, for ascending values (n,) that occur `counts` times.

    With n <= k the codebook is the values, the last one repeated.

    >>> cluster(np.array([0.0, 1.0, 9.0]), np.array([1.0, 3.0, 1.0]), [2], torch.float16)[0].tolist()
    [0.75, 9.0]
    """
    codebooks = np.empty((len(ks), max(ks)))
    _cluster_one(values, counts, form_of(dtype), np.array(ks), codebooks)
    return [codebooks[i, :k] for i, k in enumerate(ks)]


def cluster_rows(rows: Rows, ks: Sequence[int], dtype: torch.dtype, weights: Floats | None = None) -> list[Floats]:
    """Return for each of `ks` the best codebooks of all rows, (C, k), ascending, for rows (C, n).

    `weights` (C, n), above 0, say what the squared error of each value counts.

    >>> cluster_rows(np.array([[9.0, 0.0, 1.0]], np.float32), [2], torch.float16)[0].tolist()
    [[0.5, 9.0]]
    """
    codebooks = np.empty((len(rows), len(ks), max(ks)))
    form, sizes = form_of(dtype), np.array(ks)

    def work(part: slice) -> None:
        if weights is None:
            _cluster_rows(np.sort(rows[part], axis=1), form, sizes, codebooks[part])
        else:
            _cluster_weighted(rows[part], weights[part], form, sizes, codebooks[part])

    in_blocks(work, len(rows))
    return [codebooks[:, i, :k] for i, k in enumerate(ks)]
