"""The nearest entry of a codebook, for every value of a matrix: its code, or the entry itself."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.vector import LANES, each, less, load, store, where

__all__ = ["borders", "gather", "look_up", "take"]

Rows = npt.NDArray[np.float32]


def borders(codebooks: Rows) -> Rows:
    """Return the greatest float32 nearest to each entry but the last, (C, k - 1), for ascending codebooks (C, k).

    Half-way between two entries the lower one is taken.

    >>> borders(np.array([[0.0, 1.0, 3.0]], np.float32)).tolist()
    [[0.5, 2.0]]
    """
    middle = (codebooks[:, 1:].astype(np.float64) + codebooks[:, :-1]) / 2
    rounded = middle.astype(np.float32)
    return np.where(rounded > middle, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def gather(weight: Tensor, edges: Tensor, entries: Tensor) -> Tensor:
    """Run `look_up` on any device: return the entry for every value, in the shape of `weight` (C, ...).

    >>> gather(torch.tensor([[0.2, 0.9]]), torch.tensor([[0.5]]), torch.tensor([[0.0, 1.0]]))
    tensor([[0., 1.]])
    """
    rows = weight.flatten(1).float()
    codes = torch.searchsorted(edges.expand(len(rows), -1).contiguous(), rows.contiguous())
    return entries.expand(len(rows), -1).gather(1, codes).reshape(weight.shape)


def take(codes: Tensor, books: Tensor) -> Tensor:
    """Return what each code stands for, in the shape of `codes` (C, ...) and the dtype of `books` (C or 1, k).

    >>> take(torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8), torch.tensor([[0.5, 2.0]])).tolist()
    [[2.0, 0.5], [2.0, 2.0]]
    """
    rows = codes.flatten(1)
    if codes.device.type == "cpu" and not torch.compiler.is_compiling():
        whole = torch.int16 if books.itemsize == 2 else torch.int32  # bits are copied, whatever they mean
        out = torch.empty(rows.shape, dtype=books.dtype)
        _take(rows.numpy(), books.contiguous().view(whole).numpy(), out.view(whole).numpy())
        return out.reshape(codes.shape)
    first = torch.arange(0, books.numel(), books.shape[1], dtype=torch.int32, device=books.device)
    return books.flatten()[rows.int() + first[:, None]].reshape(codes.shape)


@compiled
def _take(codes: npt.NDArray[np.uint8], books: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    for row in range(codes.shape[0]):
        book, own, result = books[min(row, books.shape[0] - 1)], codes[row], out[row]
        for i in range(len(own)):
            result[i] = book[own[i]]


@compiled
def look_up(rows: Rows, edges: Rows, entries: Rows, out: Rows) -> None:
    """Fill `out` (C, n) with the entry for each value of `rows` (C, n): ``entries[c, number of edges[c] below]``.

    `edges` (C or 1, k - 1) ascend, `entries` are (C or 1, k); all are float32.
    """
    lanes = 2 * LANES
    for row in range(rows.shape[0]):
        book = min(row, edges.shape[0] - 1)
        edge, entry, values, result = edges[book], entries[min(row, entries.shape[0] - 1)], rows[row], out[row]
        size = len(values) // lanes * lanes
        for i in range(0, size, lanes):
            x, found = load(values, i), each(entry[0])
            for j in range(len(edge)):
                found = where(less(each(edge[j]), x), each(entry[j + 1]), found)
            store(result, i, found)
        for i in range(size, len(values)):
            result[i] = entry[np.searchsorted(edge, values[i])]
