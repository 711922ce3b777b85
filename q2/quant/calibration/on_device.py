"""The three loops over columns: compiled, in threads over channels, on a CPU; by a kernel on a GPU; else by torch.

All work on a block of columns at a time. What a block leaves for the others is a product of matrices, so that the three
differ by rounding alone, of sums in float32.
"""

import torch
from torch import Tensor

from q2.quant.kernels import fused
from q2.quant.kernels.chunks import in_blocks
from q2.quant.kernels.columns import compensate_columns, descend_columns, normal_rows

__all__ = ["compensate", "descend", "normal_block"]

_BLOCK, _ROWS, _ELEMENTS = 128, 4, 1 << 24
Levels = tuple[Tensor, Tensor]
"""Levels (R or 1, k), and the edges half-way between them."""


def compensate(weight: Tensor, factor: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return codes, uint8 (R, n), chosen column by column: those behind make good what a column loses.

    A block of columns at a time: what it leaves for those behind it is a product of matrices. The second result is what
    all columns together lost, (R,) float64: tr((W - W') H (W - W')^T) by rows.
    """
    lost = torch.zeros(len(weight), dtype=torch.float64, device=weight.device)
    rows, codes = weight.clone(), torch.zeros(weight.shape, dtype=torch.uint8, device=weight.device)
    known = levels, _edges(levels)
    for start in range(0, rows.shape[1], _BLOCK):
        stop = min(start + _BLOCK, rows.shape[1])
        errors = _compensate_block(rows, factor, known, slice(start, stop), codes)
        rows[:, stop:].addmm_(errors, factor[start:stop, stop:], alpha=-1)
        lost += errors.square().sum(1, dtype=torch.float64)
    return codes, lost


def _compensate_block(rows: Tensor, factor: Tensor, known: Levels, block: slice, codes: Tensor) -> Tensor:
    """Choose the codes of a block of columns and return their errors (R, columns); `rows` change within the block."""
    (levels, edges), (start, stop) = known, (block.start, block.stop)
    errors = rows.new_empty(len(rows), stop - start)
    if _is_cpu(rows):
        one, shares, table, bounds = rows.numpy(), factor.numpy(), levels.numpy(), edges.numpy()
        left, found = errors.numpy(), codes.numpy()

        def work(part: slice) -> None:
            own = part if len(table) > 1 else slice(None)
            compensate_columns(one[part], shares, bounds[own], table[own], start, stop, left[part], found[part])

        in_blocks(work, len(one))
        return errors
    if _has_kernel(rows):
        return round_block(rows, factor, known, block, codes, descends=False)
    for j in range(start, stop):
        codes[:, j], values = _rounded(rows[:, j], edges, levels)
        errors[:, j - start] = (rows[:, j] - values) / factor[j, j]
        rows[:, j + 1 : stop].addr_(errors[:, j - start], factor[j, j + 1 : stop], alpha=-1)
    return errors


def descend(pull: Tensor, matrix: Tensor, levels: Tensor, codes: Tensor) -> None:
    """Improve the codes, column by column; `pull` (R, n), which is (W - W') H, is kept right."""
    edges = _edges(levels)
    known = levels, edges
    if _is_cpu(pull):
        one, shares, table, bounds = pull.numpy(), matrix.numpy(), levels.numpy(), edges.numpy()
        found = codes.numpy()

        def work(part: slice) -> None:
            own = part if len(table) > 1 else slice(None)
            descend_columns(one[part], shares, bounds[own], table[own], found[part])

        in_blocks(work, len(one))
        return
    for start in range(0, pull.shape[1], _BLOCK):
        stop = min(start + _BLOCK, pull.shape[1])
        if _has_kernel(pull):
            moved = round_block(pull, matrix, known, slice(start, stop), codes, descends=True)
        else:
            moved = _descend_block(pull, matrix, known, slice(start, stop), codes)
        pull[:, :start].addmm_(moved, matrix[start:stop, :start], alpha=-1)
        pull[:, stop:].addmm_(moved, matrix[start:stop, stop:], alpha=-1)


def _descend_block(pull: Tensor, matrix: Tensor, known: Levels, block: slice, codes: Tensor) -> Tensor:
    """Improve a block's codes and return how far the levels moved; `pull` is kept right within the block."""
    (levels, edges), (start, stop) = known, (block.start, block.stop)
    moved = pull.new_empty(len(pull), stop - start)
    for j in range(start, stop):
        held = _values(levels, codes[:, j])
        codes[:, j], values = _rounded(held + pull[:, j] / matrix[j, j], edges, levels)
        moved[:, j - start] = values - held
        pull[:, block].addr_(moved[:, j - start], matrix[j, block], alpha=-1)
    return moved


def round_block(
    values: Tensor, matrix: Tensor, known: Levels, block: slice, codes: Tensor, *, descends: bool
) -> Tensor:
    """Run `_compensate_block`, or with `descends` `_descend_block`, as a Triton kernel.

    `values` are the rows or the pull (R, n), `matrix` is (n, n), `codes` are uint8 (R, n). Returns (R, columns of the
    block).
    """
    from q2.quant.kernels.triton_columns import round_columns

    (levels, edges), (start, stop), (count, size) = known, (block.start, block.stop), values.shape
    left = values.new_empty(count, _BLOCK)
    k = levels.shape[1]
    round_columns[(-(-count // _ROWS),)](
        values,
        matrix,
        edges,
        levels,
        codes,
        left,
        count,
        size,
        start,
        stop,
        k,
        SHARED=len(levels) == 1,
        DESCEND=descends,
        ROWS=_ROWS,
        COLUMNS=_BLOCK,
        LEVELS=max(2, 1 << (k - 1).bit_length()),
        num_warps=1,
    )
    return left[:, : stop - start]


def normal_block(matrix: Tensor, codes: Tensor, into: Tensor) -> None:
    """Add to `into` (R, k, k) what every row's codes make of H: the sums over columns of code a and code b."""
    if _is_cpu(codes):
        table, found, sums = matrix.flatten().numpy(), codes.numpy(), torch.zeros_like(into)

        def work(part: slice) -> None:
            normal_rows(table, found[part], sums[part].numpy())

        in_blocks(work, len(found))
        into.add_(sums, alpha=0.5).add_(sums.mT, alpha=0.5)
        return
    size, k = codes.shape[1], into.shape[1]
    step = max(1, _ELEMENTS // (size * k))
    for start in range(0, len(codes), step):
        part = codes[start : start + step]
        ones = torch.nn.functional.one_hot(part.long(), k).float()  # (R, n, k)
        spread = (matrix @ ones.transpose(0, 1).reshape(size, -1)).view(size, len(part), k).transpose(0, 1)
        into[start : start + step] += torch.bmm(ones.mT, spread).double()


def _is_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _has_kernel(tensor: Tensor) -> bool:
    return fused.is_on(tensor.device)


def _edges(levels: Tensor) -> Tensor:
    return ((levels[:, 1:].double() + levels[:, :-1].double()) / 2).float().contiguous()


def _rounded(values: Tensor, edges: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    codes = (values[:, None] > edges).sum(1).to(torch.uint8)
    return codes, _values(levels, codes)


def _values(levels: Tensor, codes: Tensor) -> Tensor:
    return levels.expand(len(codes), -1).gather(1, codes.long()[:, None])[:, 0]
