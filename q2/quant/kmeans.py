"""The quantizers ``kmeans-c`` and ``kmeans-a``: codebooks of 2^bits centroids, found exactly."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from q2.quant.base import Encoded, Quantizer, parameter_dtype
from q2.quant.optimal import Floats, Rows, cluster, cluster_rows, nearest_rows

__all__ = ["KMeansA", "KMeansC"]

_TABLE = 1 << 24  # entries of the split table of one fit: 64 MiB


class KMeansC(Quantizer):
    """A codebook for every output channel: the squared error is the global optimum for codebooks stored at `prec`.

    Parameters: ``codebook`` (C, 2^bits), ascending, the last centroid repeated where a channel has fewer
    distinct values, which are then exact. Source: Qua2SeDiMo, K-Means C, there fitted by Lloyd's algorithm.

    >>> fitted = KMeansC().fit(torch.tensor([[0.0, 1.0, 9.0, 9.0]]), 1)
    >>> fitted.parameters["codebook"].tolist(), fitted.codes().tolist()
    ([[0.5, 9.0]], [[0, 0, 1, 1]])
    """

    name: ClassVar[str] = "kmeans-c"

    def encode(self, weight: Tensor, bits: int, prec: int) -> Encoded:
        """Cluster every channel by itself."""
        rows = _rows(weight)
        stored, held = _dtypes(weight, prec)
        return _encoded(weight, rows, cluster_rows(np.sort(rows, axis=1), 2**bits, held), stored)

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Look every code up in its channel's codebook."""
        books = parameters["codebook"]
        first = torch.arange(0, books.numel(), books.shape[1], dtype=torch.int32, device=books.device)
        return books.flatten()[codes.flatten(1).int().add_(first[:, None])].reshape(codes.shape)

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of one codebook for each output channel.

        >>> KMeansC().overhead_bits((8, 4), 3)
        1024
        """
        return int(2**bits * prec * shape[0])

    def arithmetic_bits(self, bits: int) -> int:
        """Return 16: weights are looked up, the arithmetic stays at 16 bits."""
        return 16


class KMeansA(Quantizer):
    """One codebook for the whole tensor: the squared error is the global optimum for codebooks stored at `prec`.

    Parameters: ``codebook`` (2^bits,), ascending. Exact while distinct values x 2^bits <= 2^24, hence for every float16
    and bfloat16 weight; a larger float32 problem is solved on 2^24 / 2^bits equal bins of the range, to which alone the
    borders between clusters are then bound. Source: Qua2SeDiMo, K-Means A.

    >>> fitted = KMeansA().fit(torch.tensor([[0.0, 1.0], [9.0, 9.0]]), 1)
    >>> fitted.parameters["codebook"].tolist()
    [0.5, 9.0]
    """

    name: ClassVar[str] = "kmeans-a"

    def encode(self, weight: Tensor, bits: int, prec: int) -> Encoded:
        """Cluster the distinct values, weighted by how often they occur."""
        rows = _rows(weight)
        stored, held = _dtypes(weight, prec)
        values, counts = _histogram(weight, rows)
        if len(values) << bits > _TABLE:
            values, counts = _binned(values, counts, _TABLE >> bits)
        encoded = _encoded(weight, rows, cluster(values, counts, 2**bits, held)[None], stored)
        return Encoded(encoded.codes, {"codebook": encoded.parameters["codebook"][0]})

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Look every code up in the codebook."""
        return parameters["codebook"][codes.int()]

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of one codebook.

        >>> KMeansA().overhead_bits((8, 4), 3)
        128
        """
        return int(2**bits * prec)

    def arithmetic_bits(self, bits: int) -> int:
        """Return 16: weights are looked up, the arithmetic stays at 16 bits."""
        return 16


def _rows(weight: Tensor) -> Rows:
    """Return the weight as a float32 matrix of output channels, without negative zeros."""
    rows: Rows = weight.flatten(1).float().cpu().numpy()
    return rows + np.float32(0.0)


def _dtypes(weight: Tensor, prec: int) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtype that stores the codebook, and the coarsest its values pass through up to the layer."""
    if weight.dtype == torch.float32:
        stored = parameter_dtype(prec, float(weight.abs().max()))
        return stored, stored
    return (torch.float32 if prec == 32 else weight.dtype), weight.dtype


def _encoded(weight: Tensor, rows: Rows, books: Floats, stored: torch.dtype) -> Encoded:
    codes = torch.from_numpy(nearest_rows(rows, books)).reshape(weight.shape)
    return Encoded(codes.to(weight.device), {"codebook": torch.from_numpy(books).to(weight.device, stored)})


def _histogram(weight: Tensor, rows: Rows) -> tuple[Floats, Floats]:
    if weight.dtype == torch.float32:
        distinct, counts = np.unique(rows, return_counts=True)
        return distinct.astype(np.float64), counts.astype(np.float64)
    patterns = weight.cpu().contiguous().view(torch.int16).flatten().int().bitwise_and_(0xFFFF)
    times = torch.bincount(patterns)
    seen = times.nonzero().flatten()
    numbers: Floats = seen.to(torch.int16).view(weight.dtype).double().numpy() + 0.0
    merged, inverse = np.unique(numbers, return_inverse=True)  # both zeros are one value
    return merged.astype(np.float64), np.bincount(inverse, weights=times[seen].numpy()).astype(np.float64)


def _binned(values: Floats, counts: Floats, bins: int) -> tuple[Floats, Floats]:
    """Merge distinct ascending values into their mean within each of `bins` equal parts of their range."""
    width = (values[-1] - values[0]) / bins
    edges = np.flatnonzero(np.diff(np.floor((values - values[0]) / width), prepend=-1.0))
    merged = np.add.reduceat(counts, edges)
    return np.add.reduceat(values * counts, edges) / merged, merged
