"""Arithmetic over names, read into a checked tree: numbers, names, operators as in Python, and NumPy's functions.

Nothing is evaluated but what the grammar below knows; a name may hold dashes, digits and dots (``FID-GT-1k``)::

    sum     = product {("+" | "-") product}
    product = signed {("*" | "/" | "//" | "%") signed}
    signed  = ("-" | "+") signed | atom ["**" signed]
    atom    = number | name | function "(" sum {"," sum} ")" | "(" sum ")"
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from q2.errors import did_you_mean

__all__ = ["FUNCTIONS", "DivisionError", "ExpressionError", "Name", "Node", "Number", "Operation", "parse"]

Array = NDArray[np.float64]
_MAX_TOKENS = 500
_MAX_DEPTH = 50

_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2}
_DIVISIONS = ("/", "//", "%")
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
    "min": (2, _MAX_TOKENS, lambda *values: functools.reduce(np.minimum, values)),
    "max": (2, _MAX_TOKENS, lambda *values: functools.reduce(np.maximum, values)),
    "clip": (3, 3, lambda value, low, high: np.minimum(np.maximum(value, low), high)),
}


class ExpressionError(Exception):
    """What is wrong with a text, and at which column (from 1)."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column = column


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
        if self.symbol in _DIVISIONS and not operands[1].all():
            raise DivisionError(self, int(np.flatnonzero(operands[1] == 0)[0]))
        if self.symbol == "-" and len(operands) == 1:
            return np.asarray(np.negative(operands[0]))
        function = _OPERATORS[self.symbol] if self.symbol in _OPERATORS else FUNCTIONS[self.symbol][2]
        return np.asarray(function(*operands), np.float64)


Node = Number | Name | Operation


def parse(text: str, names: Collection[str]) -> Node:
    """Read an expression over `names`; where several names fit, the longest is meant. Raises `ExpressionError`.

    >>> str(parse("-1*FID-GT-1k - avg_bits*150", ["FID-GT-1k", "avg_bits"]))
    '(((-1.0) * FID-GT-1k) - (avg_bits * 150.0))'
    """
    return _Parser(_tokens(text, names), len(text) + 1).whole()


class _Token(NamedTuple):
    kind: str  # number, name, function, or the symbol itself
    text: str
    column: int


_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WORDLIKE = re.compile(r"\w")
_DASHED = re.compile(r"\w[\w.-]*")
_FUNCTION = re.compile(r"(?:np\.|numpy\.)?([^\W\d]\w*)(?=\s*\()")
_SYMBOL = re.compile(r"\*\*|//|[-+*/%(),]")


def _tokens(text: str, names: Collection[str]) -> list[_Token]:
    known = sorted(names, key=len, reverse=True)
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token, length = _token(text, at, known)
        tokens.append(token)
        at += length
        if len(tokens) > _MAX_TOKENS:
            raise ExpressionError(at, f"longer than {_MAX_TOKENS} numbers, names and operators")
    return tokens


def _token(text: str, at: int, known: list[str]) -> tuple[_Token, int]:
    column = at + 1
    if match := _FUNCTION.match(text, at):
        if match[1] not in FUNCTIONS:
            raise ExpressionError(column, f"unknown function {match[1]!r}{did_you_mean(match[1], FUNCTIONS)}")
        return _Token("function", match[1], column), len(match[0])
    for name in known:
        if text.startswith(name, at) and not _WORDLIKE.match(text, at + len(name)):
            return _Token("name", name, column), len(name)
    if match := _SYMBOL.match(text, at):
        return _Token(match[0], match[0], column), len(match[0])
    if (match := _NUMBER.match(text, at)) and not _WORDLIKE.match(text, match.end()):
        return _Token("number", match[0], column), len(match[0])
    word = next((found for found in _DASHED.finditer(text) if found.start() <= at < found.end()), None)
    if word is None or not _WORDLIKE.match(text, at):
        raise ExpressionError(column, f"unexpected {text[at]!r}")
    name = word[0].rstrip("-.")
    raise ExpressionError(word.start() + 1, f"unknown metric {name!r}{did_you_mean(name, known)}")


class _Parser:
    """Precedence climbing over the tokens of one text, whose end is at the column `end`."""

    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = [*tokens, _Token("", "", end)]
        self._at = 0
        self._depth = 0

    def whole(self) -> Node:
        node = self._binary(1)
        self._expect("")
        return node

    @property
    def _kind(self) -> str:
        return self._tokens[self._at].kind

    def _next(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, kind: str) -> None:
        token = self._next()
        if token.kind != kind:
            raise ExpressionError(
                token.column, f"expected {repr(kind) if kind else 'an operator'}, found {_shown(token.text)}"
            )

    def _binary(self, least: int) -> Node:
        left = self._signed()
        while _PRECEDENCE.get(self._kind, 0) >= least:
            token = self._next()
            right = self._binary(_PRECEDENCE[token.kind] + 1)
            left = self._checked(Operation(token.kind, (left, right)), token)
        return left

    def _signed(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise ExpressionError(self._tokens[self._at].column, f"nested deeper than {_MAX_DEPTH}")
        if self._kind in ("-", "+"):
            sign = self._next()
            node = self._signed()
            node = Operation("-", (node,)) if sign.kind == "-" else node
        else:
            node = self._atom()
            if self._kind == "**":
                token = self._next()
                node = self._checked(Operation("**", (node, self._signed())), token)
        self._depth -= 1
        return node

    def _atom(self) -> Node:
        token = self._next()
        if token.kind == "number":
            return Number(float(token.text))
        if token.kind == "name":
            return Name(token.text)
        if token.kind == "function":
            return self._call(token)
        if token.kind != "(":
            raise ExpressionError(
                token.column, f"expected a number, a metric or a function, found {_shown(token.text)}"
            )
        node = self._binary(1)
        self._expect(")")
        return node

    def _call(self, token: _Token) -> Node:
        self._expect("(")
        operands = [self._binary(1)]
        while self._kind == ",":
            self._next()
            operands.append(self._binary(1))
        self._expect(")")
        least, most, _ = FUNCTIONS[token.text]
        if not least <= len(operands) <= most:
            wanted = f"{least} or more" if most == _MAX_TOKENS else str(least)
            values = "value" if most == 1 else "values"
            raise ExpressionError(token.column, f"{token.text} takes {wanted} {values}, not {len(operands)}")
        return self._checked(Operation(token.text, tuple(operands)), token)

    @staticmethod
    def _checked(node: Operation, token: _Token) -> Operation:
        """Evaluate what depends on no name, so that ``1 / 0`` is found before any trial is run."""
        with np.errstate(all="ignore"):
            if node.symbol in _DIVISIONS and not node.operands[1].names and not node.operands[1].evaluate({}):
                raise ExpressionError(token.column, f"division by zero in {node}")
            if not node.names and not np.isfinite(value := node.evaluate({})):
                raise ExpressionError(token.column, f"{node} is {value}")
        return node


def _shown(text: str) -> str:
    return repr(text) if text else "the end"
