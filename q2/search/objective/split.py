"""A target's parts: what a recipe's costs say exactly, and what is left to be measured, or to be learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from q2.search.evaluation.costs import Costs
from q2.search.objective.expression import Name, Node, Operation
from q2.search.objective.target import Target

__all__ = ["Parts"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parts:
    """A target as the sum of terms. `known` are those of costs alone, each with its factor; the others are unknown.

    `linear` are the factors of costs that a known term is: sums over choices, which a solver can weigh exactly.
    """

    target: Target
    known: tuple[tuple[float, Node], ...]
    linear: Mapping[str, float]

    @classmethod
    def of(cls, target: Target, costs: Costs) -> "Parts":
        """Take a target apart. Where costs say all of it, none of it counts as known: there is nothing else to learn.

        >>> from q2.search.space import Space
        >>> costs = Costs(Space(()), {"avg_bits": np.zeros((0, 0))}, {"avg_bits": 0.0})
        >>> Parts.of(Target.parse("2*(fid - avg_bits*3) - fid*avg_bits", ["fid", "avg_bits"]), costs).linear
        {'avg_bits': -6.0}
        """
        terms = list(_terms(target.node, 1.0))
        known = tuple((factor, node) for factor, node in terms if set(node.names) <= costs.tables.keys())
        if len(known) == len(terms):
            return cls(target, (), {})
        linear: dict[str, float] = {}
        for factor, node in known:
            if isinstance(node, Name):
                linear[node.name] = linear.get(node.name, 0.0) + factor
        return cls(target, known, linear)

    def exact(self, metrics: Mapping[str, Array]) -> Array:
        """Return the known terms' sum (N,) for costs (N,) by name; 0 where nothing is known."""
        zero = np.zeros(len(next(iter(metrics.values()))) if metrics else 0)
        return np.asarray(sum((factor * node.evaluate(metrics) for factor, node in self.known), zero))

    def unknown(self, trials: Sequence[Mapping[str, float]], values: Sequence[float]) -> Array:
        """Return what is left of the target's values (N,) of trials with these metrics."""
        names = {name for _, node in self.known for name in node.names}
        columns = {name: np.array([trial[name] for trial in trials]) for name in names}
        return np.asarray(values, np.float64) - (self.exact(columns) if names else 0.0)


def _terms(node: Node, factor: float) -> Sequence[tuple[float, Node]]:
    """Return the terms of a sum with their factors; numbers before brackets are multiplied in."""
    match node:
        case Operation("+", (left, right)):
            return [*_terms(left, factor), *_terms(right, factor)]
        case Operation("-", (left, right)):
            return [*_terms(left, factor), *_terms(right, -factor)]
        case Operation("-", (inner,)):
            return _terms(inner, -factor)
        case Operation("*", (left, right)) if (pair := _scaled(left, right)) is not None:
            return _terms(pair[1], factor * pair[0])
        case Operation("/", (left, right)) if number := _number(right):
            return _terms(left, factor / number)
        case _:
            return [(factor, node)]


def _scaled(left: Node, right: Node) -> tuple[float, Node] | None:
    """Return a product with a constant as the constant and the rest."""
    number = _number(left)
    if number is not None:
        return number, right
    number = _number(right)
    return None if number is None else (number, left)


def _number(node: Node) -> float | None:
    """Return the value of a constant, None for anything else."""
    return None if node.names else float(node.evaluate({}))
