"""Reads arithmetic over names, which may hold dashes, digits and dots (``FID-GT-1k``), into a checked tree.

The grammar, with Python's precedences::

    sum     = product {("+" | "-") product}
    product = signed {("*" | "/" | "//" | "%") signed}
    signed  = ("-" | "+") signed | atom ["**" signed]
    atom    = number | name | function "(" sum {"," sum} ")" | "(" sum ")"
"""

import re
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from q2.errors import there_are
from q2.search.objective.expression import DIVISIONS, FUNCTIONS, MANY, Name, Node, Number, Operation

__all__ = ["ExpressionError", "parse"]

_MAX_TOKENS = 500
_MAX_DEPTH = 50
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2}


class ExpressionError(Exception):
    """What is wrong with a text, and at which column (from 1)."""

    def __init__(self, column: int, message: str) -> None:
        super().__init__(message)
        self.column = column


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
            raise ExpressionError(column, f"unknown function {match[1]!r}{there_are(match[1], FUNCTIONS)}")
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
    raise ExpressionError(word.start() + 1, f"unknown metric {name!r}{there_are(name, known)}")


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
            raise _unexpected(token, repr(kind) if kind else "an operator")

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
            raise _unexpected(token, "a number, a metric or a function")
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
            wanted = f"{least} or more" if most == MANY else str(least)
            values = "value" if most == 1 else "values"
            raise ExpressionError(token.column, f"{token.text} takes {wanted} {values}, not {len(operands)}")
        return self._checked(Operation(token.text, tuple(operands)), token)

    @staticmethod
    def _checked(node: Operation, token: _Token) -> Operation:
        """Evaluate what depends on no name, so that ``1 / 0`` is found before any trial is run."""
        with np.errstate(all="ignore"):
            if node.symbol in DIVISIONS and not node.operands[1].names and not node.operands[1].evaluate({}):
                raise ExpressionError(token.column, f"division by zero in {node}")
            if not node.names and not np.isfinite(value := node.evaluate({})):
                raise ExpressionError(token.column, f"{node} is {value}")
        return node


def _unexpected(token: _Token, wanted: str) -> ExpressionError:
    found = repr(token.text) if token.text else "the end"
    return ExpressionError(token.column, f"expected {wanted}, found {found}")
