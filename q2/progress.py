"""Progress of long work: a function that wraps an iterable. The command line draws bars, a library is silent."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

__all__ = ["Progress", "silent"]

T = TypeVar("T")


class Progress(Protocol):
    """Yield the items, showing `label`, how many of `total` are done, and what `note` says of the last one."""

    def __call__(
        self, items: Iterable[T], label: str, total: int | None = None, note: Callable[[Any], str] | None = None
    ) -> Iterator[T]:
        """Yield every item of `items` in order."""


def silent(
    items: Iterable[T], label: str, total: int | None = None, note: Callable[[Any], str] | None = None
) -> Iterator[T]:
    """Yield the items and show nothing.

    >>> list(silent([1, 2], "counting"))
    [1, 2]
    """
    yield from items
