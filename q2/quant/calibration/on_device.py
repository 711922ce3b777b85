"""The three loops over columns: compiled, in threads over output channels on a CPU; by torch on any other device."""

import torch
from torch import Tensor

from q2.quant.kernels.chunks import in_blocks
from q2.quant.kernels.columns import compensate_columns, descend_columns, normal_rows

__all__ = ["compensate_block", "descend_block", "normal_block"]

Block = tuple[int, int]
"""The first column of a block, and the one behind its last."""


def compensate_block(rows: Tensor, factor: Tensor, levels: Tensor, block: Block, codes: Tensor) -> Tensor:
    """Choose the codes of a block of columns and return their errors (R, columns), for the columns behind it.

    See `q2.quant.kernels.columns`; `rows` and `codes` change within the block.
    """
    start, stop = block
    errors, edges = rows.new_empty(len(rows), stop - start), _edges(levels)
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


def descend_block(pull: Tensor, matrix: Tensor, levels: Tensor, block: Block, codes: Tensor) -> Tensor:
    """Improve the codes of a block of columns and return by how much each value moved (R, columns)."""
    start, stop = block
    moved, edges = pull.new_empty(len(pull), stop - start), _edges(levels)
    if _is_cpu(pull):
        one, shares, table, bounds = pull.numpy(), matrix.numpy(), levels.numpy(), edges.numpy()
        steps, found = moved.numpy(), codes.numpy()

        def work(part: slice) -> None:
            own = part if len(table) > 1 else slice(None)
            descend_columns(one[part], shares, bounds[own], table[own], start, stop, steps[part], found[part])

        in_blocks(work, len(one))
        return moved
    for j in range(start, stop):
        held = _values(levels, codes[:, j])
        codes[:, j], values = _rounded(held + pull[:, j] / matrix[j, j], edges, levels)
        moved[:, j - start] = values - held
        pull[:, start:stop].addr_(moved[:, j - start], matrix[j, start:stop], alpha=-1)
    return moved


def normal_block(matrix: Tensor, codes: Tensor, tile: int, into: Tensor) -> None:
    """Add to `into` (R, k, k) what every row's codes make of H: the sums over columns of code a and code b."""
    if _is_cpu(codes):
        table, found, sums = matrix.numpy(), codes.numpy(), into.numpy()

        def work(part: slice) -> None:
            room = torch.empty(into.shape[1], tile).numpy()
            normal_rows(table, found[part], tile, room, sums[part])

        in_blocks(work, len(found))
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
