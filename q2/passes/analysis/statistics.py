"""Statistics of the values that a tensor takes over several calls: exact ones, and ones that stream."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from q2.config import Table
from q2.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["STATISTICS", "Statistic", "statistic_of"]

_WORDS = {float: "a number", bool: "true or false", str: "text"}
Dims = Literal["all"] | tuple[int, ...]


@dataclass
class Statistic(ABC):
    """A statistic of all values along `dims`: ``"all"``, or the dims that are reduced, which then include the batch.

    `add` takes a tensor, `result` returns count and figures: numbers, or lists where dims are left. All in float64, on
    `device`.
    """

    name: ClassVar[str]
    dims: Dims = "all"
    device: str = "cpu"

    def add(self, x: "Tensor") -> None:
        """Add the values of a tensor of any shape."""
        self.take(self._rows(x.detach().to(self.device).double()))

    def _rows(self, x: "Tensor") -> "Tensor":
        """Return the values as (reduced, kept...): the first dim is what is reduced."""
        if self.dims == "all":
            return x.reshape(-1)
        reduced = [dim % x.ndim for dim in self.dims]
        kept = [dim for dim in range(x.ndim) if dim not in reduced]
        shape = [x.shape[dim] for dim in kept]
        return x.permute(*reduced, *kept).reshape(-1, *shape)

    @abstractmethod
    def take(self, rows: "Tensor") -> None:
        """Add values (n, ...): the first dim is reduced, the others are kept."""

    @abstractmethod
    def result(self) -> dict[str, object]:
        """Return the statistic of all values added so far."""


@dataclass
class _Kept(Statistic):
    """Keeps every value."""

    _values: list["Tensor"] = field(default_factory=list, init=False, repr=False)

    def take(self, rows: "Tensor") -> None:
        self._values.append(rows.clone())

    @property
    def values(self) -> "Tensor":
        """All values (n, kept...)."""
        import torch

        return torch.cat(self._values)


@dataclass
class VariancePrecise(_Kept):
    """Mean and variance (of the population), from all values at once."""

    name: ClassVar[str] = "variance_precise"

    def result(self) -> dict[str, object]:
        """Return count, mean and variance."""
        values = self.values
        return {"count": len(values), "mean": _plain(values.mean(0)), "variance": _plain(values.var(0, correction=0))}


@dataclass
class VarianceOnline(Statistic):
    """The same without keeping values: means and squares of batches are merged (Chan et al., 1979)."""

    name: ClassVar[str] = "variance_online"
    _count: int = field(default=0, init=False, repr=False)
    _mean: Any = field(default=0.0, init=False, repr=False)
    _squares: Any = field(default=0.0, init=False, repr=False)

    def take(self, rows: "Tensor") -> None:
        """Merge values (n, ...)."""
        count = len(rows)
        mean = rows.mean(0)
        delta, total = mean - self._mean, self._count + count
        self._squares = self._squares + ((rows - mean) ** 2).sum(0) + delta**2 * self._count * count / total
        self._mean = self._mean + delta * count / total
        self._count = total

    def result(self) -> dict[str, object]:
        """Return count, mean and variance."""
        return {"count": self._count, "mean": _plain(self._mean), "variance": _plain(self._squares / self._count)}


@dataclass
class RangeMinMax(Statistic):
    """Least and greatest value, streaming; with `abs` of magnitudes."""

    name: ClassVar[str] = "range_min_max"
    abs: bool = False
    _count: int = field(default=0, init=False, repr=False)
    _ends: Any = field(default=None, init=False, repr=False)

    def take(self, rows: "Tensor") -> None:
        """Widen the range by values (n, ...)."""
        import torch

        rows = rows.abs() if self.abs else rows
        low, high = rows.amin(0), rows.amax(0)
        if self._ends is not None:
            low, high = torch.minimum(low, self._ends[0]), torch.maximum(high, self._ends[1])
        self._ends = low, high
        self._count += len(rows)

    def result(self) -> dict[str, object]:
        """Return count, min, max and range."""
        return _range(self._count, *self._ends)


@dataclass
class RangeQuantile(_Kept):
    """The range without the outermost values: the quantiles 1 - `quantile` and `quantile`, interpolated linearly."""

    name: ClassVar[str] = "range_quantile"
    abs: bool = False
    quantile: float = 0.97

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a quantile outside (0, 1)."""
        if not 0 < self.quantile < 1:
            raise ConfigError(f"quantile: expected a number between 0 and 1, not {self.quantile}")

    def result(self) -> dict[str, object]:
        """Return count, min, max and range."""
        import numpy as np
        import torch

        values = self.values.abs() if self.abs else self.values
        low, high = (
            torch.from_numpy(np.asarray(np.quantile(values.cpu().numpy(), q, axis=0)))
            for q in (min(1 - self.quantile, self.quantile), max(1 - self.quantile, self.quantile))
        )
        return _range(len(values), low, high)


@dataclass
class RangeNSigma(VarianceOnline):
    """Mean ± `num_sigma` standard deviations, streaming."""

    name: ClassVar[str] = "range_n_sigma"
    abs: bool = False
    num_sigma: float = 3.0

    def take(self, rows: "Tensor") -> None:
        """Merge values (n, ...)."""
        super().take(rows.abs() if self.abs else rows)

    def result(self) -> dict[str, object]:
        """Return count, min, max and range."""
        spread = self.num_sigma * (self._squares / self._count) ** 0.5
        return _range(self._count, self._mean - spread, self._mean + spread)


@dataclass
class AbsMean(Statistic):
    """The mean of magnitudes, streaming."""

    name: ClassVar[str] = "abs_mean"
    _count: int = field(default=0, init=False, repr=False)
    _sum: Any = field(default=0.0, init=False, repr=False)

    def take(self, rows: "Tensor") -> None:
        """Add values (n, ...)."""
        self._sum = self._sum + rows.abs().sum(0)
        self._count += len(rows)

    def result(self) -> dict[str, object]:
        """Return count and abs_mean."""
        return {"count": self._count, "abs_mean": _plain(self._sum / self._count)}


STATISTICS: Mapping[str, type[Statistic]] = {
    kind.name: kind for kind in (VariancePrecise, VarianceOnline, RangeQuantile, RangeNSigma, RangeMinMax, AbsMean)
}


def statistic_of(name: str, options: Table, where: str = "") -> Statistic:
    """Return a statistic with its options. Raises `ConfigError`, with the nearest name, for one that there is not.

    >>> statistic_of("range_quantile", {"quantile": 1.5}, "weight_statistics")
    Traceback (most recent call last):
    q2.errors.ConfigError: weight_statistics.range_quantile: quantile: expected a number between 0 and 1, not 1.5
    """
    place = f"{where}.{name}" if where else name
    if name not in STATISTICS:
        raise ConfigError(f"{place}: no such statistic{did_you_mean(name, STATISTICS)}; {', '.join(STATISTICS)}")

    given = dict(options)
    dims = given.pop("dims", "all")
    if dims not in ("all", None) and not (isinstance(dims, list | tuple) and all(isinstance(d, int) for d in dims)):
        raise ConfigError(f'{place}.dims: expected "all" or numbers of dims, not {dims!r}')
    known = {entry.name: entry.default for entry in fields(STATISTICS[name]) if entry.init and entry.name != "dims"}
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"{place}.{key}: unknown key{did_you_mean(key, known)}")
        kind = float | int if isinstance(known[key], float) else type(known[key])
        if not isinstance(value, kind) or (isinstance(value, bool) and not isinstance(known[key], bool)):
            raise ConfigError(f"{place}.{key}: expected {_WORDS[type(known[key])]}, not {value!r}")
    try:
        return STATISTICS[name](dims="all" if dims in ("all", None) else tuple(dims), **given)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None


def _range(count: int, low: Any, high: Any) -> dict[str, object]:
    return {"count": count, "max": _plain(high), "min": _plain(low), "range": _plain(high - low)}


def _plain(value: Any) -> object:
    return value.tolist() if hasattr(value, "tolist") else value if math.isfinite(value) else None
