"""Pass pipelines as text, ``stats,quantize{default=uaq-4},size``: read into the tables of a run file, and written back.

The grammar, in which spaces and line breaks count for nothing::

    pipeline = pass ("," pass)*
    pass     = [title ":"] name ["{" [option ("," option)*] "}"]
    option   = key "=" value
    value    = number | true | false | word | 'text' | "text" | "[" [value, …] "]" | "{" [option, …] "}"

A word needs no quotes unless it has a space or one of ``, = { } [ ]`` in it, or reads as a number; text in double
quotes has JSON's escapes, text in single quotes has none. A `title` is the name of the pass's table in a run file.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from q2.config import Key, Table
from q2.errors import ConfigError
from q2.passes.base import Pass

__all__ = ["Entry", "parse_pipeline", "pipeline_text"]

_NAME = re.compile(r"""[^\s,:={}\[\]'"]+""")
_WORD = re.compile(r"""[^\s,={}\[\]'"]+""")
_QUOTED = re.compile(r"""'[^']*'|"(?:[^"\\]|\\.)*\"""")
_WHOLE = re.compile(r"[+-]?\d+")
_REAL = re.compile(r"[+-]?(?:(?:\d+\.\d*|\.?\d+)(?:[eE][+-]?\d+)?|inf|nan)")
_SPACE = re.compile(r"\s*")
_DEEPEST = 50
_LITERALS = {"true": True, "false": False}


@dataclass(frozen=True)
class Entry:
    """One pass of a pipeline: its table's title, its name, its options, and where each of them stands in the text."""

    title: str
    name: str
    table: Table
    places: Mapping[Key, str] = field(default_factory=dict, compare=False)
    """Where the pass (the empty key) and its options are said, as in ``column 7``."""


def parse_pipeline(text: str) -> list[Entry]:
    """Return the passes of a pipeline. A pass that comes again gets the title ``size-2``.

    Raises `ConfigError`, one line that says at which column what was expected. Names and options are not looked up.

    >>> [(each.title, each.table) for each in parse_pipeline("size, quantize{default=uaq-4}, size")]
    [('size', {}), ('quantize', {'default': 'uaq-4'}), ('size-2', {})]
    >>> parse_pipeline("stats{samples=}")
    Traceback (most recent call last):
    q2.errors.ConfigError: column 15: expected a value after 'samples=', found '}'
    """
    return _Reader(text).pipeline()


def pipeline_text(passes: Sequence[tuple[str, Pass]], without: Collection[tuple[str, str]] = ()) -> str:
    """Return passes, by the titles of their tables, as text that `parse_pipeline` reads; defaults are left out.

    So are the options `without`, each the title of a pass and a key.

    >>> from q2.passes.analysis.stats import Stats
    >>> pipeline_text([("stats", Stats(layers="*.to_q", samples=2)), ("again", Stats())])
    'stats{layers=*.to_q,samples=2},again:stats'
    """
    titles: list[str] = []
    parts = []
    for title, step in passes:
        own = _free(step.name, titles)
        titles.append(title)
        head = step.name if title == own else f"{_shown_name(title)}:{step.name}"
        changed = {key: value for key, value in _changed(step).items() if (title, key) not in without}
        parts.append(head + (_shown(changed) if changed else ""))
    return ",".join(parts)


class _Reader:
    """Reads the text from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def pipeline(self) -> list[Entry]:
        entries: list[Entry] = []
        self._skip()
        if self.at == len(self.text):
            raise ConfigError("column 1: expected a pass, found nothing")
        while True:
            entries.append(self._pass([each.title for each in entries]))
            if self.at == len(self.text):
                return entries
            closed = self.text[: self.at].rstrip().endswith("}")
            self._expect(",", "',' and another pass, or the end" if closed else "',' or '{'")

    def _pass(self, titles: Sequence[str]) -> Entry:
        start = self.at
        name, title = self._name("the name of a pass"), ""
        if self._take(":"):
            title, start = name, self.at
            name = self._name(f"the name of a pass after '{title}:'")
        if title in titles:
            raise self._error(f"the title {title!r} is taken by another pass", start)
        places: dict[Key, str] = {(): self._place(start)}
        opened = self.at
        table = self._table(opened, (), places) if self._take("{") else {}
        return Entry(title or _free(name, titles), name, table, places)

    def _table(self, opened: int, key: Key, places: dict[Key, str]) -> Table:
        table: Table = {}
        if self._take("}"):
            return table
        while True:
            start = self.at
            name = self._quoted() if self._sees("'\"") else self._name("an option")
            if name in table:
                raise self._error(f"the option {name!r} is given twice", start)
            places[*key, name] = self._place(start)
            self._expect("=", f"'=' after the option {name!r}")
            table[name] = self._value(f"a value after '{name}='", (*key, name), places)
            if self._take("}"):
                return table
            self._expect(",", f"',' or '}}' to close the '{{' of {self._place(opened)}")

    def _value(self, what: str, key: Key, places: dict[Key, str]) -> Any:
        start = self.at
        if len(key) > _DEEPEST:
            raise self._error(f"nested deeper than {_DEEPEST}", start)
        if self._take("{"):
            return self._table(start, key, places)
        if self._take("["):
            return self._list(start, key, places)
        if self._sees("'\""):
            return self._quoted()
        return _typed(self._match(_WORD, what))

    def _list(self, opened: int, key: Key, places: dict[Key, str]) -> list[Any]:
        values: list[Any] = []
        if self._take("]"):
            return values
        while True:
            values.append(self._value("a value", (*key, str(len(values))), places))
            if self._take("]"):
                return values
            self._expect(",", f"',' or ']' to close the '[' of {self._place(opened)}")

    def _quoted(self) -> str:
        start = self.at
        found = self._match(_QUOTED, f"text that ends with {self.text[start]}")
        if found[0] == "'":
            return found[1:-1]
        try:
            return str(json.loads(found, strict=False))
        except ValueError:
            raise self._error(f"{found} is no text: its escapes should be JSON's; '…' has none", start) from None

    def _name(self, what: str) -> str:
        return self._match(_NAME, what)

    def _match(self, pattern: re.Pattern[str], what: str) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise self._unexpected(what)
        self.at = found.end()
        self._skip()
        return found.group()

    def _sees(self, signs: str) -> bool:
        return self.at < len(self.text) and self.text[self.at] in signs

    def _take(self, sign: str) -> bool:
        if not self._sees(sign):
            return False
        self.at += 1
        self._skip()
        return True

    def _expect(self, sign: str, what: str) -> None:
        if not self._take(sign):
            raise self._unexpected(what)

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _unexpected(self, what: str) -> ConfigError:
        rest = self.text[self.at : self.at + 1]
        return self._error(f"expected {what}, found {repr(rest) if rest else 'the end'}", self.at)

    def _error(self, what: str, at: int) -> ConfigError:
        return ConfigError(f"{self._place(at)}: {what}")

    def _place(self, at: int) -> str:
        line, start = self.text.count("\n", 0, at), self.text.rfind("\n", 0, at) + 1
        return f"column {at - start + 1}" if "\n" not in self.text else f"line {line + 1} column {at - start + 1}"


def _typed(word: str) -> bool | int | float | str:
    if word in _LITERALS:
        return _LITERALS[word]
    if _WHOLE.fullmatch(word) and len(word) < 1000:  # Python reads no number of thousands of digits
        return int(word)
    return float(word) if _REAL.fullmatch(word) else word


def _free(name: str, titles: Sequence[str]) -> str:
    """Return a pass's name, or the first of ``name-2``, ``name-3``, … that no other has as its title."""
    found, count = name, 1
    while found in titles:
        count += 1
        found = f"{name}-{count}"
    return found


def _changed(step: Pass) -> Table:
    """Return the options that are not as the pass has them by itself."""
    try:
        usual = type(step)().to_table()
    except TypeError:  # some must be given
        usual = {}
    table = step.to_table()
    return {key: value for key, value in table.items() if key not in usual or usual[key] != value}


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = (f"{_shown_name(str(key))}={_shown(each)}" for key, each in value.items() if each is not None)
        return f"{{{','.join(inner)}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_shown, value))}]"
    text = str(value)
    return text if _WORD.fullmatch(text) and _typed(text) == text else _quote(text)


def _shown_name(name: str) -> str:
    return name if _NAME.fullmatch(name) else _quote(name)


def _quote(text: str) -> str:
    plain = "'" not in text and text.isprintable()
    return f"'{text}'" if plain else json.dumps(text, ensure_ascii=False)
