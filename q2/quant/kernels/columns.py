"""Codes chosen column by column, so that a column's error is made good by those that are chosen after it.

All work on a block of columns, of rows (R, n) of float32 in the order in which inputs are taken; what a block leaves
for the other columns is a product of matrices, which is the caller's. `levels` (R or 1, k) are ascending, k is a power
of two, `edges` (R or 1, k - 1) lie half-way between them.
"""

import numpy as np
import numpy.typing as npt

from q2.quant.kernels.compiled import compiled

__all__ = ["compensate_columns", "descend_columns", "normal_rows"]

Rows = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]


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
            share = factor[j]
            error = (row[j] - level[code]) / share[j]
            left[r, j - start] = error
            for i in range(j + 1, stop):
                row[i] -= error * share[i]


@compiled
def descend_columns(  # noqa: PLR0917 (arrays of one problem)
    pull: Rows, matrix: Rows, edges: Rows, levels: Rows, start: int, stop: int, moved: Rows, codes: Codes
) -> None:
    """Give every column from `start` to `stop` the best code, the other columns as they are; `moved` gets the steps.

    `pull` (R, n) is (W - W') H, kept right within the block. Source: QuantEase (Behdin et al., 2023).
    """
    for r in range(pull.shape[0]):
        edge, level, row = edges[r % len(edges)], levels[r % len(levels)], pull[r]
        for j in range(start, stop):
            share = matrix[j]
            held = level[codes[r, j]]
            code = _nearest(held + row[j] / share[j], edge)
            step = level[code] - held
            moved[r, j - start] = step
            if step != 0:
                codes[r, j] = code
                for i in range(start, stop):
                    row[i] -= step * share[i]


@compiled
def normal_rows(matrix: Rows, codes: Codes, tile: int, sums: Rows, normal: Doubles) -> None:
    """Add to `normal` (R, k, k) what B^T H B is for every row, where B (n, k) says which column has which code.

    `sums` (k, tile) is room to work in: so many columns of H at a time stay near the processor.
    """
    size, k = len(matrix), normal.shape[1]
    for start in range(0, size, tile):
        stop = min(size, start + tile)
        for r in range(len(codes)):
            row, into = codes[r], normal[r]
            sums[:, :] = 0
            for i in range(size):
                sum_, share = sums[row[i]], matrix[i]
                for j in range(start, stop):
                    sum_[j - start] += share[j]
            for a in range(k):
                for j in range(start, stop):
                    into[a, row[j]] += sums[a, j - start]
