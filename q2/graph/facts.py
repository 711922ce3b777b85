"""Facts: what passes have learnt about a graph, kept in a typed store that transforms can invalidate."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from q2.errors import Q2Error, did_you_mean

__all__ = ["Fact", "Facts"]

T = TypeVar("T")


@dataclass(frozen=True)
class Fact(Generic[T]):
    """Name one kind of knowledge and the type of its value.

    A fact about every layer is a fact whose value maps layer names to values.

    >>> Fact("macs", int)
    Fact(name='macs', type=<class 'int'>)
    >>> kurtosis = Fact[dict[str, float]]("weight-kurtosis", dict)
    """

    name: str
    type: type[T]


class Facts:
    """Keep one value per fact, in the order in which they were learnt.

    >>> macs = Fact("macs", int)
    >>> facts = Facts()
    >>> facts.set(macs, 12)
    >>> facts.get(macs), macs in facts
    (12, True)
    >>> facts.drop()
    >>> macs in facts
    False
    """

    def __init__(self) -> None:
        self._values: dict[Fact[object], object] = {}

    def set(self, fact: Fact[T], value: T) -> None:
        """Store a value; it replaces an older one.

        Raises Q2Error when the value is not of the fact's type, or when another fact of the same name is stored.
        """
        if not isinstance(value, fact.type):
            found = type(value).__name__
            raise Q2Error(f"fact {fact.name!r}: expected {fact.type.__name__}, found {found}")
        key = cast("Fact[object]", fact)
        for other in self._values:
            if other.name == fact.name and other != key:
                raise Q2Error(f"fact {fact.name!r}: stored as {other.type.__name__}, now set as {fact.type.__name__}")
        self._values[key] = value

    def get(self, fact: Fact[T]) -> T:
        """Return the value of a fact; raises Q2Error when nothing has set it."""
        try:
            return cast("T", self._values[cast("Fact[object]", fact)])
        except KeyError:
            nearest = did_you_mean(fact.name, [known.name for known in self._values])
            raise Q2Error(
                f"fact {fact.name!r} is not known for this graph{nearest}; run the pass that sets it"
            ) from None

    def drop(self, preserve: Collection[Fact[Any]] = frozenset()) -> None:
        """Forget every fact but those in `preserve`."""
        self._values = {fact: value for fact, value in self._values.items() if fact in preserve}

    def __contains__(self, fact: object) -> bool:
        return fact in self._values

    def __iter__(self) -> Iterator[Fact[Any]]:
        return iter(tuple(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Facts({', '.join(fact.name for fact in self)})"
