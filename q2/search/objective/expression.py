"""Arithmetic as a tree: numbers, names, operators as in Python, and NumPy's functions. Nothing else is evaluated."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIVISIONS", "FUNCTIONS", "MANY", "DivisionError", "Name", "Node", "Number", "Operation"]

Array = NDArray[np.float64]
MANY = 10**6

DIVISIONS = ("/", "//", "%")
_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "//": np.floor_divide,
    "%": np.remainder,
    "**": np.float_power,
}
_UNARY = (np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p, np.sqrt, np.cbrt, np.square)
_STEPS = (np.sign, np.floor, np.ceil, np.tanh, np.arctan)
FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Any]]] = {
    "abs": (1, 1, np.abs),
    **{function.__name__: (1, 1, function) for function in (*_UNARY, *_STEPS)},
    "minimum": (2, 2, np.minimum),
    "maximum": (2, 2, np.maximum),
    "power": (2, 2, np.float_power),
    "min": (2, MANY, lambda *values: functools.reduce(np.minimum, values)),
    "max": (2, MANY, lambda *values: functools.reduce(np.maximum, values)),
    "clip": (3, 3, lambda value, low, high: np.minimum(np.maximum(value, low), high)),
}


class DivisionError(Exception):
    """A division whose divisor is zero, in the row `index` of the values."""

    def __init__(self, node: "Node", index: int) -> None:
        super().__init__(f"division by zero in {node}")
        self.index = index


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float

    def __str__(self) -> str:
        return repr(self.value)

    @property
    def names(self) -> tuple[str, ...]:
        """The names it depends on: none."""
        return ()

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        """Return the constant, shape ()."""
        return np.asarray(self.value, np.float64)


@dataclass(frozen=True)
class Name:
    """A value that is looked up."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def names(self) -> tuple[str, ...]:
        """The names it depends on: its own."""
        return (self.name,)

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        """Return the named values, of any shape."""
        return values[self.name]


@dataclass(frozen=True)
class Operation:
    """An operator or a function, by its symbol, on one or more operands; ``-`` with one operand is the negative."""

    symbol: str
    operands: tuple["Node", ...]

    def __str__(self) -> str:
        inner = [str(operand) for operand in self.operands]
        if self.symbol not in _OPERATORS:
            return f"{self.symbol}({', '.join(inner)})"
        return f"(-{inner[0]})" if len(inner) == 1 else f"({inner[0]} {self.symbol} {inner[1]})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names that its operands depend on, each once, in order."""
        return tuple(dict.fromkeys(name for operand in self.operands for name in operand.names))

    def evaluate(self, values: Mapping[str, Array]) -> Array:
        """Return the result, of the values' common shape. Raises `DivisionError`."""
        operands = [operand.evaluate(values) for operand in self.operands]
        if self.symbol in DIVISIONS and not operands[1].all():
            raise DivisionError(self, int(np.flatnonzero(operands[1] == 0)[0]))
        if self.symbol == "-" and len(operands) == 1:
            return np.asarray(np.negative(operands[0]))
        function = _OPERATORS[self.symbol] if self.symbol in _OPERATORS else FUNCTIONS[self.symbol][2]
        return np.asarray(function(*operands), np.float64)


Node = Number | Name | Operation
