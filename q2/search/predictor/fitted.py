"""An additive predictor that was fitted: what every option adds to a sum, and what target the sum means."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.link import Link

__all__ = ["Additive"]


@dataclass(frozen=True, eq=False)
class Additive:
    """What options add (choices, options) to a sum, of which `link` makes the target.

    `left_out` (n,) are the trials of the fit, each predicted from the others.
    """

    table: Floats
    constant: float
    link: Link
    left_out: Floats

    def predict(self, chosen: Ints) -> Floats:
        """Return the target (...) of options (..., choices)."""
        sums = self.table[np.arange(len(self.table)), chosen].sum(-1)
        return self.link.back(sums + self.constant)
