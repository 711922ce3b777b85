"""Facts: what passes have learnt about a graph, kept in a typed store that transforms can invalidate."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

from q2.errors import Q2Error, did_you_mean

__all__ = ["Fact", "Facts", "Origin"]

T = TypeVar("T")


@dataclass(frozen=True)
class Fact(Generic[T]):
    """Name one kind of knowledge and the type of its value.

    A fact about every layer is a fact whose value maps layer names to values. A fact of ``"now"`` is about the model as
    it is, and a transform that does not preserve it drops it. A fact of ``"full precision"`` is about the model before
    the first transform: it is set until then, and every transform keeps it.

    >>> Fact("macs", int)
    Fact(name='macs', type=<class 'int'>, of='now')
    >>> ranges = Fact[dict[str, float]]("input-ranges", dict, of="full precision")
    """

    name: str
    type: type[T]
    of: Literal["now", "full precision"] = "now"

    @property
    def is_of_full_precision(self) -> bool:
        """Return whether the fact is about the model before the first transform."""
        return self.of == "full precision"


@dataclass(frozen=True, eq=False)
class Origin:
    """Where one value of a fact comes from: the pass that set it, with its options; each value has its own origin."""

    step: str
    options: Mapping[str, object]

    def __str__(self) -> str:
        """Return the pass and its options, as in ``units(ties=True)``."""
        return f"{self.step}({', '.join(f'{key}={value!r}' for key, value in self.options.items())})"


class Facts:
    """Keep one value per fact, in the order in which they were learnt, and where each comes from.

    `transforms` are the names of the transforms that have changed the model since it was traced.

    >>> macs = Fact("macs", int)
    >>> facts = Facts()
    >>> with facts.made_by("count", {"layers": "*"}):
    ...     facts.set(macs, 12)
    >>> facts.get(macs), macs in facts
    (12, True)
    >>> facts
    Facts(macs by count(layers='*'))
    >>> facts.drop()
    >>> macs in facts
    False
    """

    def __init__(self) -> None:
        self._values: dict[Fact[object], tuple[object, Origin]] = {}
        self._dropped: dict[Fact[object], tuple[Origin, str]] = {}
        self._readers: dict[Origin, dict[str, None]] = {}
        self._origin = Origin("", {})
        self.transforms: tuple[str, ...] = ()

    def set(self, fact: Fact[T], value: T) -> None:
        """Store a value; it replaces an older one. A fact of full precision stays what it is after a transform.

        Raises Q2Error when the value is not of the fact's type, or when another fact of the same name is stored.
        """
        if not isinstance(value, fact.type):
            found = type(value).__name__
            raise Q2Error(f"fact {fact.name!r}: expected {fact.type.__name__}, found {found}")
        key = cast("Fact[object]", fact)
        for other in self._values:
            if other.name == fact.name and other != key:
                raise Q2Error(f"fact {fact.name!r}: stored as {_kind(other)}, now set as {_kind(fact)}")
        if not (fact.is_of_full_precision and self.transforms):
            self._values[key] = value, Origin(self._origin.step, self._origin.options)

    def get(self, fact: Fact[T]) -> T:
        """Return the value of a fact; raises Q2Error when nothing has set it, or a transform has dropped it."""
        key = cast("Fact[object]", fact)
        if key in self._values:
            value, origin = self._values[key]
            if self._origin.step and self._origin.step != origin.step:
                self._readers.setdefault(origin, {})[self._origin.step] = None
            return cast("T", value)
        if fact.is_of_full_precision and self.transforms:
            raise Q2Error(f"fact {fact.name!r} is of full precision, and was not set before {self.transforms[0]!r}")
        ended, transform = self._dropped.get(key, (None, ""))
        if ended:
            raise Q2Error(f"fact {fact.name!r}, set by {ended}, ended with {transform!r}; run the pass again")
        nearest = did_you_mean(fact.name, [known.name for known in self._values])
        raise Q2Error(f"fact {fact.name!r} is not known for this graph{nearest}; run the pass that sets it")

    def origin(self, fact: Fact[Any]) -> Origin | None:
        """Return where the value of a fact comes from, None without one. Another value has another origin object."""
        return self._values[fact][1] if fact in self._values else None

    def readers(self, origin: Origin) -> tuple[str, ...]:
        """Return the names of the passes that have read the value of this origin, in order; not the one that set it."""
        return tuple(self._readers.get(origin, ()))

    def last_origin(self, fact: Fact[Any]) -> Origin | None:
        """Return where the value of a fact comes from, or came from before it was dropped."""
        return self.origin(fact) or self._dropped.get(fact, (None,))[0]

    @contextmanager
    def made_by(self, step: str, options: Mapping[str, object]) -> Iterator[None]:
        """Name the pass that sets the facts inside a ``with``."""
        before, self._origin = self._origin, Origin(step, dict(options))
        try:
            yield
        finally:
            self._origin = before

    def forget(self, fact: Fact[Any]) -> None:
        """Forget the value of a fact; nothing happens where there is none."""
        self._values.pop(fact, None)

    def drop(self, preserve: Collection[Fact[Any]] = frozenset(), by: str = "a change") -> None:
        """Forget every fact but those in `preserve` and those of full precision; `by` is the transform's name."""
        gone = [fact for fact in self._values if fact not in preserve and not fact.is_of_full_precision]
        for fact in gone:
            self._dropped[fact] = self._values.pop(fact)[1], by
        if by not in self.transforms:
            self.transforms += (by,)

    def __contains__(self, fact: object) -> bool:
        return fact in self._values

    def __iter__(self) -> Iterator[Fact[Any]]:
        return iter(tuple(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        known = (f"{fact.name} by {o}" if o.step else fact.name for fact, (_, o) in self._values.items())
        return f"Facts({', '.join(known)})"


def _kind(fact: Fact[Any]) -> str:
    return fact.type.__name__ + (" of full precision" if fact.is_of_full_precision else "")
