"""The quantizers ``kmeans-c`` and ``kmeans-a``: codebooks of 2^bits centroids, found exactly."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from q2.quant.base import Quantizer
from q2.quant.calibration.normal import Normal, solved
from q2.quant.dtypes import cast_to, parameter_dtype
from q2.quant.kernels.chunks import over_chunks
from q2.quant.kernels.fused import Kind
from q2.quant.kernels.lookup import borders, gather, look_up, take
from q2.quant.kernels.monge import Floats
from q2.quant.kernels.narrow import cluster_many
from q2.quant.kernels.optimal import cluster, cluster_rows

__all__ = ["KMeansA", "KMeansC"]


class _KMeans(Quantizer):
    """What both have: codebooks of centroids, looked up for the nearest."""

    code: ClassVar[Kind] = "codebook"

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        """Find the codebooks."""
        return self.parameters_each(weight, [bits], prec)[0]

    def parameters_each(self, weight: Tensor, widths: Sequence[int], prec: int) -> list[Mapping[str, Tensor]]:
        """Find the codebooks of all widths in one go."""
        stored, held = _dtypes(weight, prec)
        books = self.codebooks(weight, [2**bits for bits in widths], held)
        return [{"codebook": cast_to(torch.from_numpy(book), stored).to(weight.device)} for book in books]

    @abstractmethod
    def codebooks(self, weight: Tensor, ks: Sequence[int], dtype: torch.dtype) -> list[Floats]:
        """Return for each of `ks` the codebook or codebooks, ascending, of numbers that `dtype` holds."""

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the nearest entry's code, the lower of two."""
        books = torch.atleast_2d(parameters["codebook"])
        numbers = torch.arange(books.shape[1], dtype=torch.float32, device=books.device)[None]
        return _looked_up(weight, books, numbers, torch.uint8)

    def restore(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int, out: Tensor | None = None) -> Tensor:
        """Return the nearest entries."""
        books = torch.atleast_2d(parameters["codebook"])
        return _looked_up(weight, books, books.float(), weight.dtype, out)

    def levels(self, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the centroids."""
        book: Tensor = torch.atleast_2d(parameters["codebook"])
        return book.float()

    def arithmetic_bits(self, bits: int) -> int:
        """Return 16: weights are looked up, the arithmetic stays at 16 bits."""
        return 16


class KMeansC(_KMeans):
    """A codebook for every output channel: the squared error is the global optimum for codebooks stored at `prec`.

    Parameters: ``codebook`` (C, 2^bits), ascending, the last centroid repeated where a channel has fewer
    distinct values, which are then exact. Source: Qua2SeDiMo, K-Means C, there fitted by Lloyd's algorithm.

    >>> fitted = KMeansC().fit(torch.tensor([[0.0, 1.0, 9.0, 9.0]]), 1)
    >>> fitted.parameters["codebook"].tolist(), fitted.codes().tolist()
    ([[0.5, 9.0]], [[0, 0, 1, 1]])
    """

    name: ClassVar[str] = "kmeans-c"
    per_channel: ClassVar[tuple[str, ...] | None] = ("codebook",)

    def codebooks(self, weight: Tensor, ks: Sequence[int], dtype: torch.dtype) -> list[Floats]:
        """Cluster every channel by itself."""
        return cluster_rows(weight.flatten(1).float().cpu().contiguous().numpy(), ks, dtype)

    def refit(self, normal: Normal, parameters: Mapping[str, Tensor], bits: int) -> Mapping[str, Tensor]:
        """Solve for every channel's centroids."""
        book = parameters["codebook"].clone()
        for part, curvature, pull in normal.each():
            book[part] = _stored(solved(curvature, pull, book[part]), book.dtype)
        return {"codebook": book}

    def weighted_parameters(
        self, weight: Tensor, importance: Tensor, widths: Sequence[int], prec: int
    ) -> list[Mapping[str, Tensor]]:
        """Cluster every channel by itself, its values weighted."""
        stored, held = _dtypes(weight, prec)
        rows, ks = weight.flatten(1).float().cpu().contiguous().numpy(), [2**bits for bits in widths]
        books = cluster_rows(rows, ks, held, importance.numpy())
        return [{"codebook": cast_to(torch.from_numpy(book), stored).to(weight.device)} for book in books]

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Look every code up in its channel's codebook."""
        return take(codes, parameters["codebook"])

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of one codebook for each output channel.

        >>> KMeansC().overhead_bits((8, 4), 3)
        1024
        """
        return int(2**bits * prec * shape[0])


class KMeansA(_KMeans):
    """One codebook for the whole tensor: the squared error is the global optimum for codebooks stored at `prec`.

    Parameters: ``codebook`` (2^bits,), ascending. Source: Qua2SeDiMo, K-Means A.

    >>> fitted = KMeansA().fit(torch.tensor([[0.0, 1.0], [9.0, 9.0]]), 1)
    >>> fitted.parameters["codebook"].tolist()
    [0.5, 9.0]
    """

    name: ClassVar[str] = "kmeans-a"
    per_channel: ClassVar[tuple[str, ...] | None] = ()

    def codebooks(self, weight: Tensor, ks: Sequence[int], dtype: torch.dtype) -> list[Floats]:
        """Cluster the values, of 16-bit weights the distinct ones, weighted by how often they occur."""
        if weight.dtype == torch.float32:
            return cluster_many(weight.flatten().cpu().numpy(), ks, dtype)
        return cluster(*_histogram(weight), ks, dtype)

    def refit(self, normal: Normal, parameters: Mapping[str, Tensor], bits: int) -> Mapping[str, Tensor]:
        """Solve for the centroids that all channels share."""
        book = parameters["codebook"]
        return {"codebook": _stored(solved(*normal.total(), book[None]), book.dtype)[0]}

    def weighted_parameters(
        self, weight: Tensor, importance: Tensor, widths: Sequence[int], prec: int
    ) -> list[Mapping[str, Tensor]]:
        """Cluster all values, weighted; those of float32 by what they are in 16 bits, of which calibration starts."""
        stored, held = _dtypes(weight, prec)
        short = weight if weight.dtype != torch.float32 else cast_to(weight, stored)
        short = short if short.dtype != torch.float32 else short.bfloat16()
        books = cluster(*_histogram(short, importance.flatten()), [2**bits for bits in widths], held)
        return [{"codebook": cast_to(torch.from_numpy(book), stored).to(weight.device)} for book in books]

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Look every code up in the codebook."""
        return take(codes, parameters["codebook"][None])

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        """Return the bits of one codebook.

        >>> KMeansA().overhead_bits((8, 4), 3)
        128
        """
        return int(2**bits * prec)


def _dtypes(weight: Tensor, prec: int) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtype that stores the codebook, and the coarsest its values pass through up to the layer."""
    if weight.dtype == torch.float32:
        low, high = weight.aminmax()
        stored = parameter_dtype(prec, max(-float(low), float(high)))
        return stored, stored
    return (torch.float32 if prec == 32 else weight.dtype), weight.dtype


def _stored(levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Return levels as a codebook holds them, ascending."""
    return cast_to(levels.sort(1).values, dtype)


def _histogram(weight: Tensor, importance: Tensor | None = None) -> tuple[Floats, Floats]:
    """Return the distinct values of a 16-bit weight, ascending, and how often each occurs, or how important it is."""
    patterns = weight.cpu().contiguous().view(torch.int16).flatten()
    times = torch.zeros(1 << 16, dtype=torch.long if importance is None else torch.float64)
    for start in range(0, len(patterns), 1 << 20):  # counting widens them to 8 bytes
        part = slice(start, start + (1 << 20))
        weights = None if importance is None else importance[part]
        times += torch.bincount(patterns[part].int().bitwise_and_(0xFFFF), weights, minlength=1 << 16)
    seen = times.nonzero().flatten()
    numbers: Floats = seen.to(torch.int16).view(weight.dtype).double().numpy() + 0.0
    merged, inverse = np.unique(numbers, return_inverse=True)  # both zeros are one value
    return merged.astype(np.float64), np.bincount(inverse, weights=times[seen].numpy()).astype(np.float64)


def _looked_up(weight: Tensor, books: Tensor, entries: Tensor, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """Return, for every value, the one of `entries` (C or 1, k) at the index of its nearest in `books` (C or 1, k)."""
    edges = borders(books.float().cpu().numpy())
    if weight.device.type != "cpu":
        return cast_to(gather(weight, torch.from_numpy(edges).to(weight.device), entries.float()), dtype)
    values = entries.float().numpy()

    def work(rows: Tensor, part: slice) -> Tensor:
        found = np.empty(rows.shape, np.float32)
        own_edges, own_values = (array[part] if len(array) > 1 else array for array in (edges, values))
        look_up(rows.numpy(), own_edges, own_values, found)
        return torch.from_numpy(found)

    return over_chunks(weight, dtype, work, out)
