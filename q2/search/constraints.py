"""Constraints: bounds on metrics that are sums over layers, such as ``avg_bits <= 3.7``."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from q2.errors import ConfigError, did_you_mean
from q2.search.costs import Costs
from q2.search.space import Indices

__all__ = ["Constraint", "check"]

_SLACK = 1e-9


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric.

    >>> str(Constraint.parse("avg_bits<=3.70", ["avg_bits"]))
    'avg_bits <= 3.7'
    """

    metric: str
    sense: Literal["<=", ">="]
    bound: float

    @classmethod
    def parse(cls, text: str, metrics: Collection[str]) -> "Constraint":
        """Read ``metric <= number`` or ``metric >= number``. Raises `ConfigError`: one line with the nearest metric.

        >>> Constraint.parse("avgbits <= 3", ["avg_bits"])
        Traceback (most recent call last):
        q2.errors.ConfigError: constraint 'avgbits <= 3': no metric 'avgbits'; did you mean 'avg_bits'?
        """
        match = re.fullmatch(r"\s*(\S+?)\s*(<=|>=)\s*(\S+)\s*", text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise ConfigError(f"constraint {text!r}: expected a metric, <= or >=, and a number")
        name = match[1]
        if name not in metrics:
            raise ConfigError(f"constraint {text!r}: no metric {name!r}{did_you_mean(name, metrics)}")
        return cls(name, "<=" if match[2] == "<=" else ">=", bound)

    def __str__(self) -> str:
        return f"{self.metric} {self.sense} {self.bound:g}"

    def admits(self, value: float) -> bool:
        """Say whether a value is within the bound, but for rounding."""
        slack = _SLACK * max(abs(self.bound), 1.0)
        return value <= self.bound + slack if self.sense == "<=" else value >= self.bound - slack

    def holds(self, costs: Costs, indices: Indices) -> bool:
        """Say whether a vector (choices,) of option indices keeps to the bound."""
        return self.admits(float(costs.value(self.metric, indices)))


def check(constraints: Collection[Constraint], costs: Costs) -> None:
    """Raise `ConfigError` for bounds that no recipe keeps to, with the nearest that one can."""
    for bound in constraints:
        costs.check([bound.metric])
        low, high = costs.extent(bound.metric)
        nearest = low if bound.sense == "<=" else high
        if not bound.admits(nearest):
            word = "least" if bound.sense == "<=" else "most"
            raise ConfigError(f"constraint '{bound}': no recipe keeps to it, the {word} is {nearest:.6g}")
        for other in constraints:
            apart = other.metric == bound.metric and (bound.sense, other.sense) == ("<=", ">=")
            if apart and bound.bound < other.bound:
                raise ConfigError(f"constraints '{bound}' and '{other}' contradict each other")
