"""The three loops over columns: compiled, in threads over output channels on a CPU; by torch on any other device."""

import torch
from torch import Tensor

from q2.quant.kernels.chunks import in_blocks
from q2.quant.kernels.columns import compensate_columns, descend_columns, normal_rows

__all__ = ["compensate", "descend", "normal_block"]

_BLOCK = 128
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
    for j in range(start, stop):
        codes[:, j], values = _rounded(rows[:, j], edges, levels)
        errors[:, j - start] = (rows[:, j] - values) / factor[j, j]
        rows[:, j + 1 : stop].addr_(errors[:, j - start], factor[j, j + 1 : stop], alpha=-1)
    return errors


def descend(pull: Tensor, matrix: Tensor, levels: Tensor, codes: Tensor) -> None:
    """Improve the codes, column by column; `pull` (R, n), which is (W - W') H, is kept right."""
    edges = _edges(levels)
    if _is_cpu(pull):
        one, shares, table, bounds = pull.numpy(), matrix.numpy(), levels.numpy(), edges.numpy()
        found = codes.numpy()

        def work(part: slice) -> None:
            own = part if len(table) > 1 else slice(None)
            descend_columns(one[part], shares, bounds[own], table[own], found[part])

        in_blocks(work, len(one))
        return
    for j in range(pull.shape[1]):
        held = _values(levels, codes[:, j])
        codes[:, j], values = _rounded(held + pull[:, j] / matrix[j, j], edges, levels)
        pull.addr_(values - held, matrix[j], alpha=-1)


def normal_block(matrix: Tensor, codes: Tensor, into: Tensor) -> None:
    """Add to `into` (R, k, k) what every row's codes make of H: the sums over columns of code a and code b."""
    if _is_cpu(codes):
        table, found, sums = matrix.flatten().numpy(), codes.numpy(), torch.zeros_like(into)

        def work(part: slice) -> None:
            normal_rows(table, found[part], sums[part].numpy())

        in_blocks(work, len(found))
        into.add_(sums, alpha=0.5).add_(sums.mT, alpha=0.5)
        return
    for r in range(len(codes)):
        ones = torch.nn.functional.one_hot(codes[r].long(), into.shape[1]).float()
        into[r] += (ones.T @ (matrix @ ones)).double()


def _is_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu"


def _edges(levels: Tensor) -> Tensor:
    return ((levels[:, 1:].double() + levels[:, :-1].double()) / 2).float().contiguous()


def _rounded(values: Tensor, edges: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    codes = (values[:, None] > edges).sum(1).to(torch.uint8)
    return codes, _values(levels, codes)


def _values(levels: Tensor, codes: Tensor) -> Tensor:
    return levels.expand(len(codes), -1).gather(1, codes.long()[:, None])[:, 0]
