"""A catalogue: the named, lazily loaded things of one kind that all plugins offer together."""

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from q2.errors import PluginError, Q2Error, there_are
from q2.plugins.spec import OFFERS

__all__ = ["Catalogue", "Kind", "Offer"]

T = TypeVar("T")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of thing that plugins offer: the hook that hands it over, and ``"module:Class"`` of its base `T`.

    Whoever defines the base defines the kind beside it, and asks for what there is with `Plugins.of`.

    A base may have a class method ``check_class()``, which raises `Q2Error` for a subclass that is not well formed.
    """

    hook: str
    base: str

    @property
    def name(self) -> str:
        """What messages call one of the kind."""
        return OFFERS[self.hook]

    def check(self, offer: "Offer[Any]", thing: object) -> None:
        """Raise `PluginError`, with owner and hook, unless `thing` is a complete class of the kind, named as offered.

        The base's module is imported here, so only when a run loads a thing of the kind.
        """
        base = _found(self.base)
        try:
            _check_class(thing, base, offer.name)
            getattr(thing, "check_class", lambda: None)()
        except Q2Error as error:
            raise PluginError(f"{offer.owner}: {self.hook}: {offer.name!r} {error}") from error


def _check_class(thing: object, base: type, name: str) -> None:
    if not (inspect.isclass(thing) and issubclass(thing, base)):
        module = base.__module__.removesuffix(".base")
        raise Q2Error(f"is {_called(thing)}, expected a subclass of {module}.{base.__name__}")
    missing = sorted(getattr(thing, "__abstractmethods__", ()))
    if missing:
        raise Q2Error(f"is the class {thing.__name__}, which lacks {', '.join(missing)}")
    own = getattr(thing, "name", None)
    if own != name:
        raise Q2Error(f"is the class {thing.__name__}, whose own name is {own!r}; the two must be the same")


def _called(thing: object) -> str:
    return f"the class {thing.__name__}" if inspect.isclass(thing) else f"of type {type(thing).__name__}"


def _found(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


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
        try:
            return cast("type[T]", _found(self.thing))
        except Exception as error:  # whatever a plugin's import may raise
            raise PluginError(
                f"{self.owner}: cannot load {self.name!r} from {self.thing!r}: {one_line(error)}"
            ) from error

    def summary(self) -> str:
        """Return the first line of the thing's docstring; a thing that is named is not imported for it."""
        if not isinstance(self.thing, str):
            return (self.thing.__doc__ or "").strip().partition("\n")[0]
        module, _, attribute = self.thing.partition(":")
        top, *rest = module.split(".")
        spec = importlib.util.find_spec(top)
        places = [Path(place, *rest) for place in (spec.submodule_search_locations or () if spec else ())]
        files = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
        file = next((file for file in files if file.is_file()), None)
        tree = ast.parse(file.read_text(encoding="utf-8")) if file else ast.Module([], [])
        found = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute)
        text = next((ast.get_docstring(node) or "" for node in found), "")
        return text.partition("\n")[0]


class Catalogue(Mapping[str, Offer[T]]):
    """Offers of one kind by name. A name offered twice is an error to whoever asks for it, naming both owners."""

    def __init__(self, kind: Kind[T], offers: tuple[Offer[T], ...], broken: Mapping[str, str]) -> None:
        self._kind, self._broken = kind, broken
        self._offers: dict[str, list[Offer[T]]] = {}
        for offer in offers:
            self._offers.setdefault(offer.name, []).append(offer)

    def __getitem__(self, name: str) -> Offer[T]:
        found = self._offers[name]
        if len(found) > 1:
            owners = " and ".join(repr(offer.owner) for offer in found)
            raise PluginError(
                f"the {self._kind.name} {name!r} is offered by both {owners}; put one into plugins.disable"
            )
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

    def called(self, name: str) -> str:
        """Return how a message names a thing: after its owner and hook, where a plugin offers it."""
        owner = f"{self.owners(name)[0]}: {self._kind.hook}: " if name in self else ""
        return f"{owner}{name!r}"

    def find(self, name: str) -> Offer[T]:
        """Return the offer called `name`; nothing is imported. Raises `PluginError`, with the nearest name."""
        if name not in self:
            broken = "".join(f"; the plugin {owner!r} is broken: {error}" for owner, error in self._broken.items())
            raise PluginError(f"no {self._kind.name} named {name!r}{there_are(name, self)}{broken}")
        return self[name]

    def load(self, name: str) -> type[T]:
        """Return the class called `name`, checked. Raises `PluginError`: nearest name, or owner and what is wrong."""
        offer = self.find(name)
        thing = offer.load()
        self._kind.check(offer, thing)
        return thing


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its type, and its message without line breaks."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
