"""A catalogue: the named, lazily loaded things of one kind that all plugins offer together."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from q2.errors import PluginError, did_you_mean

__all__ = ["Catalogue", "Offer"]

T = TypeVar("T")


@dataclass(frozen=True)
class Offer(Generic[T]):
    """One thing that one plugin offers, loaded or still named by ``"package.module:attribute"``."""

    name: str
    owner: str
    thing: "str | type[T]"

    def load(self) -> "type[T]":
        """Import the thing. Raises `PluginError` with the owner's name if that fails."""
        if not isinstance(self.thing, str):
            return self.thing
        module, _, attribute = self.thing.partition(":")
        try:
            return cast("type[T]", getattr(importlib.import_module(module), attribute))
        except Exception as error:  # whatever a plugin's import may raise
            raise PluginError(
                f"{self.owner}: cannot load {self.name!r} from {self.thing!r}: {one_line(error)}"
            ) from error


class Catalogue(Mapping[str, Offer[T]]):
    """Offers of one kind by name. A name offered twice is an error to whoever asks for it, naming both owners."""

    def __init__(self, kind: str, offers: tuple[Offer[T], ...], broken: Mapping[str, str]) -> None:
        self._kind, self._broken = kind, broken
        self._offers: dict[str, list[Offer[T]]] = {}
        for offer in offers:
            self._offers.setdefault(offer.name, []).append(offer)

    def __getitem__(self, name: str) -> Offer[T]:
        found = self._offers[name]
        if len(found) > 1:
            owners = " and ".join(repr(offer.owner) for offer in found)
            raise PluginError(f"the {self._kind} {name!r} is offered by both {owners}; put one into plugins.disable")
        return found[0]

    def __contains__(self, name: object) -> bool:
        return name in self._offers

    def __iter__(self) -> Iterator[str]:
        return iter(self._offers)

    def __len__(self) -> int:
        return len(self._offers)

    def owners(self, name: str) -> tuple[str, ...]:
        """Return every plugin that offers `name`: more than one is a clash."""
        return tuple(offer.owner for offer in self._offers[name])

    def load(self, name: str) -> type[T]:
        """Return the thing called `name`. Raises `PluginError`, with the nearest name and any broken plugin."""
        if name not in self:
            broken = "".join(f"; the plugin {owner!r} is broken: {error}" for owner, error in self._broken.items())
            raise PluginError(f"no {self._kind} named {name!r}{did_you_mean(name, self)}{broken}")
        return self[name].load()


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its type, and its message without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
