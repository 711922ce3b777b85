"""Codes chosen column by column, so that later columns compensate for the error of earlier ones.

All work on a block of columns, of rows (R, n) of float32 in the order in which inputs are taken; what a block leaves
for the other columns is a product of matrices, which is the caller's. `levels` (R or 1, k) are ascending, k is a power
of two, `edges` (R or 1, k - 1) lie half-way between them.
"""

import numpy as np
import numpy.typing as npt

from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.vector import LANES, Lanes, each, load, store

__all__ = ["compensate_columns", "descend_columns", "normal_rows"]

Rows = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
Places = npt.NDArray[np.int32]
_BLOCK, _LANES = 128, 2 * LANES


@compiled
def _nearest(x: float, edges: Rows) -> int:
    """Return the number of the level nearest to x, the lower of two."""
    place, step = 0, (len(edges) + 1) // 2
    while step > 0:
        if x > edges[place + step - 1]:
            place += step
        step //= 2
    return place


@compiled
def _subtract(row: Rows, times: float, other: Rows) -> None:
    for i in range(len(row)):
        row[i] -= times * other[i]


@compiled
def compensate_columns(  # noqa: PLR0917 (arrays of one problem)
    rows: Rows, factor: Rows, edges: Rows, levels: Rows, start: int, stop: int, left: Rows, codes: Codes
) -> None:
    """Round columns from `start` to `stop`, each with the errors of those before it; `left` (R, columns) gets errors.

    `factor` (n, n) is the upper Cholesky factor of the inverse of the inputs' second moments. Source: GPTQ (Frantar et
    al., ICLR'23), algorithm 1.
    """
    for r in range(rows.shape[0]):
        edge, level, row = edges[r % len(edges)], levels[r % len(levels)], rows[r]
        for j in range(start, stop):
            code = _nearest(row[j], edge)
            codes[r, j] = code
            error = (row[j] - level[code]) / factor[j, j]
            left[r, j - start] = error
            _subtract(row[j + 1 : stop], error, factor[j, j + 1 : stop])


@compiled
def descend_columns(pull: Rows, matrix: Rows, edges: Rows, levels: Rows, codes: Codes) -> None:
    """Give every column in turn the best code, the other columns as they are.

    `pull` (R, n) is (W - W') H, and is kept right. A block of columns is done for all rows before the next one, so that
    its part of H stays near the processor; most codes stay what they are. Source: QuantEase (Behdin et al., 2023).
    """
    size, steps = pull.shape[1], np.zeros(_BLOCK, np.float32)
    for start in range(0, size, _BLOCK):
        stop = min(size, start + _BLOCK)
        for r in range(pull.shape[0]):
            edge, level, row = edges[r % len(edges)], levels[r % len(levels)], pull[r]
            for j in range(start, stop):
                held = level[codes[r, j]]
                code = _nearest(held + row[j] / matrix[j, j], edge)
                step = level[code] - held
                steps[j - start] = step
                if step != 0:
                    codes[r, j] = code
                    _subtract(row[start:stop], step, matrix[j, start:stop])
            for j in range(start, stop):
                if steps[j - start] != 0:
                    _subtract(row[:start], steps[j - start], matrix[j, :start])
                    _subtract(row[stop:], steps[j - start], matrix[j, stop:])


@compiled
def _order(codes: Codes, k: int) -> tuple[Places, Places]:
    """Return the columns of every row by code, ascending for each, and where the columns of every code start."""
    many, size = codes.shape
    columns, starts = np.empty((many, size), np.int32), np.zeros((many, k + 1), np.int32)
    place = np.empty(k, np.int32)
    for r in range(many):
        for i in range(size):
            starts[r, codes[r, i] + 1] += 1
        for a in range(k):
            starts[r, a + 1] += starts[r, a]
            place[a] = starts[r, a]
        for i in range(size):
            code = codes[r, i]
            columns[r, place[code]] = i
            place[code] += 1
    return columns, starts


@compiled
def _sum(  # noqa: PLR0917 (one block of columns)
    matrix: Rows, size: int, columns: Places, first: int, stop: int, sums: Rows
) -> None:
    """Set `sums` to those over rows `columns` of H, in columns from `first` on; those before `first` count twice."""
    width = 4 * _LANES
    whole = first + (stop - first) // width * width
    for j in range(first, whole, width):
        a, b, c, d = _zeros(), _zeros(), _zeros(), _zeros()
        twice = True
        for n in range(len(columns)):
            i = columns[n]
            if twice and i >= first:
                a, b, c, d, twice = a + a, b + b, c + c, d + d, False
            if i >= stop:
                break
            at = size * i + j
            a, b = a + load(matrix, at), b + load(matrix, at + _LANES)
            c, d = c + load(matrix, at + 2 * _LANES), d + load(matrix, at + 3 * _LANES)
        if twice:
            a, b, c, d = a + a, b + b, c + c, d + d
        at = j - first
        store(sums, at, a)
        store(sums, at + _LANES, b)
        store(sums, at + 2 * _LANES, c)
        store(sums, at + 3 * _LANES, d)
    for j in range(whole, stop):
        total = np.float32(0)
        for n in range(len(columns)):
            i = columns[n]
            if i < stop:
                total += matrix[size * i + j] * np.float32(2 if i < first else 1)
        sums[j - first] = total


@compiled
def _zeros() -> Lanes:
    return each(np.float32(0))


@compiled
def normal_rows(matrix: Rows, codes: Codes, normal: Doubles) -> None:
    """Add to `normal` (R, k, k) a matrix whose symmetric part is B^T H B: B (n, k) says which column has which code.

    `matrix` is H, flat, which is symmetric: what is above its blocks on the diagonal counts twice, what is below not at
    all. A block of columns is done for all rows before the next one, so that it stays near the processor.
    """
    size, k = codes.shape[1], normal.shape[1]
    columns, starts = _order(codes, k)
    sums = np.empty(_BLOCK, np.float32)
    for first in range(0, size, _BLOCK):
        stop = min(size, first + _BLOCK)
        for r in range(len(codes)):
            row, into = codes[r], normal[r]
            for a in range(k):
                mine = columns[r, starts[r, a] : starts[r, a + 1]]
                if len(mine):
                    _sum(matrix, size, mine, first, stop, sums)
                    for j in range(first, stop):
                        into[a, row[j]] += sums[j - first]
