"""What Python callers hand over, checked: an error is one line with the argument, its value and what was expected."""

import operator
import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from q2.errors import ConfigError

__all__ = ["shown", "texts", "the_path", "unexpected", "whole", "whole_numbers"]


def unexpected(name: str, value: object, expected: str) -> ConfigError:
    """Return the error for an argument that is not as expected.

    >>> unexpected("recipe", None, "a file")
    ConfigError('recipe=None: expected a file')
    """
    return ConfigError(f"{name}={shown(value)}: expected {expected}")


def shown(value: object) -> str:
    """Return a value as a short text without line breaks."""
    return " ".join(reprlib.repr(value).split())


def texts(name: str, value: object) -> tuple[str, ...]:
    """Return one text or several as a tuple; None is none. Raises `ConfigError`.

    >>> texts("metrics", "PSNR"), texts("metrics", ["PSNR", "SSIM"]), texts("metrics", None)
    (('PSNR',), ('PSNR', 'SSIM'), ())
    """
    expected = "text, or a list of texts"
    items = (value,) if isinstance(value, str) else _items(name, value, expected)
    found = tuple(item for item in items if isinstance(item, str))
    if len(found) < len(items):
        raise unexpected(name, value, expected)
    return found


def whole_numbers(name: str, value: object, least: int = 0) -> tuple[int, ...]:
    """Return a list of whole numbers as a tuple; None is none. Raises `ConfigError`.

    >>> whole_numbers("classes", [3, 5])
    (3, 5)
    >>> whole_numbers("classes", 3)
    Traceback (most recent call last):
    q2.errors.ConfigError: classes=3: expected a list of whole numbers, 0 or more, such as [3, 5]
    """
    expected = f"a list of whole numbers, {least} or more, such as [3, 5]"
    found = [_whole(item) for item in _items(name, value, expected)]
    numbers = tuple(number for number in found if number is not None and number >= least)
    if len(numbers) < len(found):
        raise unexpected(name, value, expected)
    return numbers


def whole(name: str, value: object, least: int | None = None) -> int:
    """Return a whole number, of any type that is one. Raises `ConfigError`.

    >>> whole("n", 0, 1)
    Traceback (most recent call last):
    q2.errors.ConfigError: n=0: expected a whole number, 1 or more
    """
    number = _whole(value)
    if number is None or (least is not None and number < least):
        raise unexpected(name, value, "a whole number" + ("" if least is None else f", {least} or more"))
    return number


def the_path(name: str, value: object, expected: str = "a path") -> Path:
    """Return a path that is given as text or as a `Path`. Raises `ConfigError`."""
    if not isinstance(value, str | Path) or not os.fspath(value):
        raise unexpected(name, value, expected)
    return Path(value)


def _items(name: str, value: object, expected: str) -> tuple[object, ...]:
    if value is None:
        return ()
    try:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise TypeError
        return tuple(value)
    except TypeError:  # an array without dimensions says that it is iterable
        raise unexpected(name, value, expected) from None


def _whole(value: object) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
