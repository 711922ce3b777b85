"""The link between a target and a sum: what adds up over layers is often the target bent, not the target itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from q2.search.predictor.dataset import Floats

__all__ = ["BENDS", "Link"]

BENDS = (0.0, -0.6, -0.3, 0.3, 0.6)
_LEAST = 1e-3


@dataclass(frozen=True)
class Link:
    """Standardizes a target and bends it by an exponential, ``(1 - exp(-bend·u)) / bend``; not at all with 0.

    Errors of layers add up as noise does, and a signal-to-noise ratio is their logarithm: bent upwards, it adds up
    again. Manly, Exponential data transformations (The Statistician, 1976). `least` is the smallest ``1 - bend·sum``
    that `back` tells from 0.

    >>> link = Link(10.0, 2.0, 0.3)
    >>> link.back(link.straight(np.array([6.0, 10.0, 14.0]))).round(6).tolist()
    [6.0, 10.0, 14.0]
    """

    mean: float
    deviation: float
    bend: float = 0.0
    least: float = _LEAST

    def straight(self, y: Floats) -> Floats:
        """Return what is to be a sum, of targets (n,)."""
        u = (y - self.mean) / self.deviation
        return np.asarray(-np.expm1(-self.bend * u) / self.bend if self.bend else u)

    def back(self, z: Floats) -> Floats:
        """Return the targets of sums (n,)."""
        u = -np.log(np.maximum(1 - self.bend * z, self.least)) / self.bend if self.bend else z
        return np.asarray(u * self.deviation + self.mean)

    def slope(self, y: float) -> float:
        """Return by how much the target grows with the sum, where it is `y`."""
        return float(self.deviation * np.exp(self.bend * (y - self.mean) / self.deviation))
