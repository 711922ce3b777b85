"""The exact optimum of one-dimensional k-means over sorted values, by dynamic programming.

Ckmeans.1d.dp (Wang and Song, The R Journal 2011) with the monotone split points of a Monge cost: O(k n log n).
Centroids are restricted to the numbers that a float format can hold. The cost stays Monge under that restriction, so
the result is the global optimum among *stored* codebooks, not a rounded optimum. The kernels release the GIL and take
no part in numba's own threading, which dies when two Python threads meet in it.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch

from q2.quant.chunks import in_threads

__all__ = ["Grid", "cluster", "cluster_rows", "nearest_rows"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Grid = tuple[float, float, float]
Problem = tuple[Floats, Floats, Floats, float, Grid]  # prefix sums of 1, x, x^2; what x is centred on; what rounds
F = TypeVar("F", bound=Callable[..., Any])


def grid(dtype: torch.dtype) -> Grid:
    """Return what the kernels need to round to `dtype`: Veltkamp's splitter, least normal, adder for subnormals."""
    info = torch.finfo(dtype)
    return info.eps * 2.0**52 + 1.0, info.smallest_normal, info.smallest_normal * info.eps * 1.5 * 2.0**52


def _compiled(function: F) -> F:
    """Compile at the first call; keep the machine code on disk where some folder is writable."""
    try:
        return cast(F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no writable folder for the cache
        return cast(F, numba.njit(nogil=True)(function))


@_compiled
def _round(x: float, to: Grid) -> float:
    splitter, least, adder = to
    if abs(x) < least:
        return (x + adder) - adder
    scaled = x * splitter
    return scaled - (scaled - x)


@_compiled
def _prefix_sums(values: Floats, counts: Floats, middle: float) -> tuple[Floats, Floats, Floats]:
    size = len(values)
    count, total, square = np.zeros(size + 1), np.zeros(size + 1), np.zeros(size + 1)
    for i in range(size):
        x = values[i] - middle
        count[i + 1] = count[i] + counts[i]
        total[i + 1] = total[i] + counts[i] * x
        square[i + 1] = square[i] + counts[i] * x * x
    return count, total, square


@_compiled
def _best_start(problem: Problem, before: Floats, low: int, high: int, stop: int) -> tuple[float, int]:
    """Return the least squared error of everything below `stop`, and where its last cluster starts."""
    count, total, square, middle, to = problem
    count_stop, total_stop, square_stop = count[stop], total[stop], square[stop]
    best, where = np.inf, low
    for start in range(low, high + 1):
        n, s = count_stop - count[start], total_stop - total[start]
        mean = s / n
        rest = before[start] + (square_stop - square[start])
        if rest - s * mean < best:  # the error around the mean bounds that around a centroid that can be stored
            centroid = _round(mean + middle, to) - middle
            error = rest - centroid * (2.0 * s - n * centroid)
            if error < best:
                best, where = error, start
    return best, where


@_compiled
def _splits(values: Floats, counts: Floats, k: int, middle: float, to: Grid) -> npt.NDArray[np.int32]:
    """Return where each of `k` clusters starts, and the end."""
    size = len(values)
    count, total, square = _prefix_sums(values, counts, middle)
    problem = (count, total, square, middle, to)
    before, now = np.zeros(size + 1), np.zeros(size + 1)
    split = np.zeros((k, size + 1), np.int32)
    for stop in range(1, size + 1):
        before[stop], _ = _best_start(problem, now, 0, 0, stop)
    top = 1
    while top * 2 <= size:
        top *= 2
    for j in range(1, k):
        step = top if j < k - 1 else 0
        while True:  # stops far apart first: their splits bound those between them
            first, stride = (step, 2 * step) if step else (size, size)
            for stop in range(first, size + 1, stride):
                if stop <= j:
                    continue
                low = max(j, split[j - 1, stop])
                high = stop - 1
                if step and stop - step > j:
                    low = max(low, split[j, stop - step])
                if step and stop + step <= size:
                    high = min(high, split[j, stop + step])
                now[stop], split[j, stop] = _best_start(problem, before, low, high, stop)
            step //= 2
            if step == 0:
                break
        before, now = now, before
    ends = np.zeros(k + 1, np.int32)
    ends[k] = size
    for j in range(k - 1, 0, -1):
        ends[j] = split[j, ends[j + 1]]
    return ends


@_compiled
def _cluster(values: Floats, counts: Floats, to: Grid, codebook: Floats) -> None:
    size, k = len(values), len(codebook)
    if size <= k:
        for j in range(k):
            codebook[j] = _round(values[min(j, size - 1)], to)
        return
    middle = np.sum(values * counts) / np.sum(counts)
    ends = _splits(values, counts, k, middle, to)
    for j in range(k):
        start, stop = ends[j], ends[j + 1]
        n = s = 0.0
        for i in range(start, stop):
            n += counts[i]
            s += counts[i] * (values[i] - middle)
        mean = min(max(s / n + middle, values[start]), values[stop - 1])
        codebook[j] = _round(mean, to)


@_compiled
def _cluster_rows(rows: Rows, to: Grid, codebooks: Floats) -> None:
    size = rows.shape[1]
    values, counts = np.empty(size), np.empty(size)
    for r in range(rows.shape[0]):
        distinct = 0
        for i in range(size):
            if i and rows[r, i] == rows[r, i - 1]:
                counts[distinct - 1] += 1.0
            else:
                values[distinct], counts[distinct] = rows[r, i], 1.0
                distinct += 1
        _cluster(values[:distinct], counts[:distinct], to, codebooks[r])


@_compiled
def _nearest_rows(rows: Rows, codebooks: Floats, codes: Codes) -> None:
    k = codebooks.shape[1]
    for r in range(rows.shape[0]):
        book = codebooks[min(r, codebooks.shape[0] - 1)]
        for i in range(rows.shape[1]):
            low, high = 0, k - 1
            while low < high:
                middle = (low + high) // 2
                if 2.0 * rows[r, i] > book[middle] + book[middle + 1]:
                    low = middle + 1
                else:
                    high = middle
            codes[r, i] = low


def cluster(values: Floats, counts: Floats, k: int, dtype: torch.dtype) -> Floats:
    """Return the best codebook (k,), ascending, for distinct ascending `values` (n,) that occur `counts` (n,) times.

    With n <= k the codebook is the values, the last one repeated.

    >>> cluster(np.array([0.0, 1.0, 9.0]), np.array([1.0, 3.0, 1.0]), 2, torch.float16).tolist()
    [0.75, 9.0]
    """
    codebook = np.empty(k)
    _cluster(values, counts, grid(dtype), codebook)
    return codebook


def cluster_rows(rows: Rows, k: int, dtype: torch.dtype) -> Floats:
    """Return the best codebook of every row, (C, k), ascending, for rows (C, n) that are each sorted.

    >>> cluster_rows(np.array([[0.0, 1.0, 9.0]], np.float32), 2, torch.float16).tolist()
    [[0.5, 9.0]]
    """
    codebooks = np.empty((rows.shape[0], k))
    to = grid(dtype)
    _in_blocks(lambda part: _cluster_rows(rows[part], to, codebooks[part]), rows.shape[0])
    return codebooks


def nearest_rows(rows: Rows, codebooks: Floats) -> Codes:
    """Return the code of the nearest entry, the lower of two, for rows (C, n) and codebooks (C, k) or (1, k).

    >>> nearest_rows(np.array([[0.0, 5.0, 9.0]], np.float32), np.array([[1.0, 9.0]])).tolist()
    [[0, 0, 1]]
    """
    codes = np.empty(rows.shape, np.uint8)
    shared = codebooks.shape[0] == 1
    _in_blocks(
        lambda part: _nearest_rows(rows[part], codebooks if shared else codebooks[part], codes[part]), rows.shape[0]
    )
    return codes


def _in_blocks(work: Callable[[slice], None], rows: int) -> None:
    """Do `work` on blocks of rows, several for each thread, as rows differ in how long they take."""
    step = max(1, rows // (8 * torch.get_num_threads()))
    in_threads([slice(start, start + step) for start in range(0, rows, step)], work)
