"""The Triton kernel of `q2.quant.calibration.on_device`. Importing it needs Triton, which CUDA builds of torch have."""

from typing import Any

import triton
import triton.language as tl

__all__ = ["round_columns"]


def _round_columns(  # noqa: PLR0917 (Triton's kernels take their arguments in order)
    values: tl.tensor,
    matrix: tl.tensor,
    edges: tl.tensor,
    levels: tl.tensor,
    codes: tl.tensor,
    left: tl.tensor,
    count: tl.tensor,
    size: tl.tensor,
    start: tl.tensor,
    stop: tl.tensor,
    k: tl.tensor,
    SHARED: tl.constexpr,  # noqa: N803 (constants of the compiler)
    DESCEND: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    COLUMNS: tl.constexpr,  # noqa: N803
    LEVELS: tl.constexpr,  # noqa: N803
) -> None:
    """Choose codes (R, n) of the columns from `start` to `stop`, one after the other, for a few rows.

    `values` (R, n) are weights of which errors are taken, and `left` (R, columns) gets the errors; with DESCEND they
    are (W - W') H, codes are there, and `left` gets how far the level moves. `matrix` is (n, n).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column, code = start + tl.arange(0, COLUMNS), tl.arange(0, LEVELS)
    real, inside = row < count, column < stop
    place = row.to(tl.int64)[:, None] * size + column[None, :]
    tile = tl.load(values + place, mask=real[:, None] & inside[None, :], other=0.0)
    book = (tl.zeros_like(row) if SHARED else row)[:, None]
    table = tl.load(levels + book * k + code[None, :], mask=real[:, None] & (code < k)[None, :], other=0.0)
    bounds = tl.load(
        edges + book * (k - 1) + code[None, :], mask=real[:, None] & (code < k - 1)[None, :], other=float("inf")
    )
    chosen = tl.zeros([ROWS, COLUMNS], tl.int32)
    if DESCEND:
        chosen = tl.load(codes + place, mask=real[:, None] & inside[None, :], other=0).to(tl.int32)
    rest = tl.zeros([ROWS, COLUMNS], tl.float32)
    for j in range(start, stop):
        mine = (column == j)[None, :]
        x = tl.sum(tl.where(mine, tile, 0.0), axis=1)
        line = matrix + j * size  # pieces have few enough inputs for 32 bits
        pivot = tl.load(line + j)
        shares = tl.load(line + column, mask=inside if DESCEND else inside & (column > j), other=0.0)
        if DESCEND:
            before = tl.sum(tl.where(mine, chosen, 0), axis=1)
            held = tl.sum(tl.where(code[None, :] == before[:, None], table, 0.0), axis=1)
            x = held + tl.div_rn(x, pivot)
        found = tl.sum((x[:, None] > bounds).to(tl.int32), axis=1)
        value = tl.sum(tl.where(code[None, :] == found[:, None], table, 0.0), axis=1)
        moved = value - held if DESCEND else tl.div_rn(x - value, pivot)
        tile -= moved[:, None] * shares[None, :]
        chosen = tl.where(mine, found[:, None], chosen)
        rest = tl.where(mine, moved[:, None], rest)
    good = real[:, None] & inside[None, :]
    tl.store(codes + place, chosen.to(tl.uint8), mask=good)
    tl.store(left + row[:, None] * COLUMNS + (column - start)[None, :], rest, mask=good)
    if DESCEND:
        tl.store(values + place, tile, mask=good)


round_columns: Any = triton.jit(_round_columns)
