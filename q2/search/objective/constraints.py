"""Constraints: bounds on metrics that are sums over layers, such as ``avg_bits <= 3.7``."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from q2.errors import ConfigError, there_are
from q2.search.evaluation.costs import Costs
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
            raise ConfigError(f"constraint {text!r}: no metric {name!r}{there_are(name, metrics)}")
        return cls(name, "<=" if match[2] == "<=" else ">=", bound)

    def __str__(self) -> str:
        return f"{self.metric} {self.sense} {self.bound:.10g}"

    @property
    def sign(self) -> float:
        """1 for an upper bound, -1 for a lower one: times `sign`, both are upper ones."""
        return 1.0 if self.sense == "<=" else -1.0

    @property
    def slack(self) -> float:
        """By how much rounding may break the bound."""
        return _SLACK * max(abs(self.bound), 1.0)

    def admits(self, value: float) -> bool:
        """Return whether a value satisfies the bound, up to rounding."""
        return bool(self.admitted(np.array(value)))

    def admitted(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return which values satisfy the bound, up to rounding, in the same shape."""
        return np.asarray(self.sign * values <= self.sign * self.bound + self.slack)

    def holds(self, costs: Costs, indices: Indices) -> bool:
        """Return whether a recipe, a vector (choices,) of option indices, satisfies the bound."""
        return self.admits(float(costs.value(self.metric, indices)))

    def refusal(self, nearest: float, others: Sequence["Constraint"] = ()) -> str:
        """Return the line that says that no recipe satisfies it, given `others`, and which bound one could satisfy.

        >>> Constraint("avg_bits", "<=", 3.0).refusal(3.0312345)
        "constraint 'avg_bits <= 3': no recipe satisfies it, the least is 3.03124"
        """
        word, up = ("least", True) if self.sense == "<=" else ("most", False)
        together = " together with " + " and ".join(f"'{bound}'" for bound in others) if others else ""
        return f"constraint '{self}': no recipe satisfies it{together}, the {word} is {_rounded(nearest, up=up)}"


def check(constraints: Collection[Constraint], costs: Costs) -> None:
    """Raise `ConfigError`, with the nearest possible bound, for bounds that no recipe satisfies."""
    for bound in constraints:
        costs.check([bound.metric])
        low, high = costs.extent(bound.metric)
        nearest = low if bound.sense == "<=" else high
        if not bound.admits(nearest):
            raise ConfigError(bound.refusal(nearest))
        for other in constraints:
            apart = other.metric == bound.metric and (bound.sense, other.sense) == ("<=", ">=")
            if apart and bound.bound < other.bound:
                raise ConfigError(f"constraints '{bound}' and '{other}' contradict each other")


def _rounded(value: float, *, up: bool) -> str:
    """Return six digits that a bound can be set to: rounded towards what is feasible."""
    if value == 0:
        return "0"
    unit = Decimal(1).scaleb(Decimal(value).adjusted() - 5)
    rounded = (Decimal(value) - Decimal(_SLACK) * (1 if up else -1)).quantize(
        unit, ROUND_CEILING if up else ROUND_FLOOR
    )
    return f"{float(rounded):g}" if abs(rounded) < 10**6 else f"{float(rounded):.0f}"
