"""Dictionary encoding of recipes: layers and options stand in tables, a recipe is a character a layer.

Ten thousand recipes of one denoiser name the same layers and a few dozen options.
"""

import json
import string
from collections.abc import Hashable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any

from q2.files import parse_json
from q2.search.trials.lines import digest

__all__ = ["EncodedRecipe", "LayerTable", "Tables", "key", "plain"]

_CODES = string.digits + string.ascii_letters + "".join(c for c in string.punctuation if c not in '"\\')
"""The codes of the first 93 options, a byte each in JSON; those of more are letters from U+0100 on."""
_BEYOND = 0x100


class LayerTable:
    """The names of the layers of many recipes, sorted, with the place of each. `body` is what a segment keeps of it."""

    __slots__ = ("body", "digest", "place")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.place = {name: place for place, name in enumerate(names)}
        self.body = json.dumps(names, separators=(",", ":")).encode()
        self.digest = digest(self.body)


class EncodedRecipe(Mapping[str, str]):
    """A recipe, layer to option, in one character a layer; pickles and copies as a plain dictionary.

    `options` are the texts by their codes.
    """

    __slots__ = ("codes", "layers", "options")

    def __init__(self, layers: LayerTable, options: Mapping[str, str], codes: str) -> None:
        self.layers, self.options, self.codes = layers, options, codes

    def __getitem__(self, layer: str) -> str:
        return self.options[self.codes[self.layers.place[layer]]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers.place)

    def __len__(self) -> int:
        return len(self.codes)

    def __contains__(self, layer: object) -> bool:
        return layer in self.layers.place

    def plain(self) -> dict[str, str]:
        """Return it as a dictionary."""
        return dict(zip(self.layers.place, map(self.options.__getitem__, self.codes), strict=True))

    def keys(self) -> KeysView[str]:
        """Return the layers."""
        return self.layers.place.keys()

    def values(self) -> ValuesView[str]:
        """Return the options, in the order of the layers."""
        return self.plain().values()

    def items(self) -> ItemsView[str, str]:
        """Return layers with their options."""
        return self.plain().items()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EncodedRecipe) and self.options is other.options:
            return self.codes == other.codes and self.layers.place == other.layers.place
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]  # as that of a dictionary

    def __repr__(self) -> str:
        return repr(self.plain())

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.plain(),)


def plain(recipe: Mapping[str, str]) -> dict[str, str]:
    """Return a recipe as a dictionary of its own."""
    return recipe.plain() if isinstance(recipe, EncodedRecipe) else dict(recipe)


def key(recipe: Mapping[str, str]) -> Hashable:
    """Return what two recipes of one store share if they are equal."""
    return (recipe.layers.digest, recipe.codes) if isinstance(recipe, EncodedRecipe) else frozenset(recipe.items())


class Tables:
    """The tables of a store: its own, which grow with new recipes, and the tables of the segments it has read."""

    def __init__(self) -> None:
        self._options: dict[str, str] = {}
        self._codes: dict[str, str] = {}
        self._layers: dict[tuple[str, ...], LayerTable] = {}
        self._by_digest: dict[str, LayerTable] = {}
        self._translations: dict[str, dict[str, str]] = {}
        self._snapshot: tuple[int, bytes] = (0, b"{}")

    def encode(self, recipe: Mapping[str, str]) -> EncodedRecipe:
        """Return a recipe with the codes of this store."""
        if isinstance(recipe, EncodedRecipe) and recipe.options is self._options:
            return recipe
        names = tuple(sorted(recipe))
        given = plain(recipe)
        return self._recipe(self._table(names), "".join([self._code(given[name]) for name in names]))

    def options(self) -> tuple[str, bytes]:
        """Return the options so far, as a segment keeps them: the table's digest, and its text."""
        count, body = self._snapshot
        if count != len(self._options):
            body = json.dumps(self._options, separators=(",", ":")).encode()
            self._snapshot = len(self._options), body
        return digest(body), body

    def take_layers(self, body: bytes) -> None:
        """Read a segment's table of layers. Raises `ValueError` for one of another form."""
        names = parse_json(body)
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError("no table of layers")
        self._by_digest[digest(body)] = self._table(tuple(names))

    def take_options(self, body: bytes) -> None:
        """Read a segment's table of options. Raises `ValueError` for one of another form."""
        options = parse_json(body)
        if not isinstance(options, dict):
            raise ValueError("no table of options")
        self._translations[digest(body)] = {code: self._code(str(text)) for code, text in options.items()}

    def has(self, layers: str, options: str) -> bool:
        """Return whether the tables of these digests have been taken in."""
        return layers in self._by_digest and options in self._translations

    def decode(self, layers: str, options: str, codes: str) -> EncodedRecipe:
        """Return a recipe in the codes of a segment. Raises `KeyError` or `ValueError` for codes of other tables."""
        table, codes = self._by_digest[layers], "".join(map(self._translations[options].__getitem__, codes))
        if len(codes) != len(table.place):
            raise ValueError("codes are missing")
        return self._recipe(table, codes)

    def _recipe(self, table: LayerTable, codes: str) -> EncodedRecipe:
        return EncodedRecipe(table, self._options, codes)

    def _table(self, names: tuple[str, ...]) -> LayerTable:
        if names not in self._layers:
            self._layers[names] = table = LayerTable(names)
            self._by_digest[table.digest] = table
        return self._layers[names]

    def _code(self, option: str) -> str:
        code = self._codes.get(option)
        if code is None:
            place = len(self._codes)
            code = _CODES[place] if place < len(_CODES) else chr(_BEYOND + place - len(_CODES))
            self._codes[option], self._options[code] = code, option
        return code
