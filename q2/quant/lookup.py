"""The nearest entry of a codebook, for every value of a matrix: its code, or the entry itself."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from q2.quant.compiled import compiled
from q2.quant.vector import LANES, each, less, load, store, where

__all__ = ["borders", "gather", "look_up"]

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
    """Do what `look_up` does on any device: return the entry for every value, in the shape of `weight` (C, ...).

    >>> gather(torch.tensor([[0.2, 0.9]]), torch.tensor([[0.5]]), torch.tensor([[0.0, 1.0]]))
    tensor([[0., 1.]])
    """
    rows = weight.flatten(1).float()
    codes = torch.searchsorted(edges.expand(len(rows), -1).contiguous(), rows.contiguous())
    return entries.expand(len(rows), -1).gather(1, codes).reshape(weight.shape)


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
