"""Process a matrix in row blocks, in parallel and with bounded memory."""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["each_chunk", "in_blocks", "in_threads", "on_device", "over_chunks"]

# Elements at a time. On a CPU so few that torch works on each alone: its own threads wait for one another after every
# operation, which takes seconds on a machine that is busy otherwise. On a GPU enough to fill it.
_ELEMENTS = {"cpu": 1 << 15, "cuda": 1 << 24}
R = TypeVar("R")


def each_chunk(rows: Tensor, work: Callable[[slice], R]) -> list[R]:
    """Return what `work` returns for each slice over the rows of a matrix, in order; on a CPU in threads.

    >>> each_chunk(torch.zeros(3, 1 << 14), lambda part: (part.start, part.stop))
    [(0, 2), (2, 4)]
    """
    step = max(1, _ELEMENTS.get(rows.device.type, 1 << 20) // rows.shape[1])
    parts = [slice(start, start + step) for start in range(0, rows.shape[0], step)]
    return on_device(parts, work, rows.device)


def on_device(parts: list[slice], work: Callable[[slice], R], device: torch.device) -> list[R]:
    """Return what `work` returns for each of `parts`, in order: in threads on a CPU, one after the other elsewhere."""
    return in_threads(parts, work) if device.type == "cpu" else [work(part) for part in parts]


def over_chunks(
    weight: Tensor, dtype: torch.dtype, work: Callable[[Tensor, slice], Tensor], out: Tensor | None = None
) -> Tensor:
    """Return, in the shape of `weight` and in `dtype`, what `work` makes of its rows, a few float32 ones at a time.

    What `work` returns must be within the range of `dtype`. It is written to `out` if that is contiguous.

    >>> over_chunks(torch.ones(2, 3), torch.uint8, lambda rows, part: rows + part.start).tolist()
    [[1, 1, 1], [1, 1, 1]]
    """
    weight = weight.detach()
    if out is None or not out.is_contiguous() or out.dtype != dtype:
        out = torch.empty(weight.shape, dtype=dtype, device=weight.device)
    rows, flat = weight.flatten(1), out.flatten(1)

    def one(part: slice) -> None:
        flat[part] = work(rows[part].float().contiguous(), part)

    each_chunk(rows, one)
    return out


def in_threads(parts: list[slice], work: Callable[[slice], R]) -> list[R]:
    """Return what `work` returns for each of `parts`, in order, done by as many threads as torch uses."""
    threads = min(torch.get_num_threads(), len(parts))
    if threads < 2:
        return [work(part) for part in parts]
    return list(_pool(os.getpid(), torch.get_num_threads()).map(work, parts))


@functools.cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return threads that stay: with new ones every time, the allocator's arenas would keep what each once held.

    A fork has none of its parent's threads, hence `process`.
    """
    return ThreadPoolExecutor(threads)


def in_blocks(work: Callable[[slice], None], rows: int) -> None:
    """Do `work` on blocks of rows, several for each thread, as rows differ in how long they take."""
    step = max(1, rows // (8 * torch.get_num_threads()))
    in_threads([slice(start, start + step) for start in range(0, rows, step)], work)
