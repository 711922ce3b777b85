"""The search space: which options each weight layer may take, and random recipes from it (Qua²SeDiMo, AAAI'25)."""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from q2.errors import ConfigError, OptionError, RecipeError, did_you_mean
from q2.quant.options import Option

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["Indices", "Space", "SpaceChoice", "SpaceItems", "SpaceUnit"]

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class SpaceChoice:
    """Weight layers that share one option, and the options to choose from, as text.

    `layers` are one weight layer (or part of a split one, ``path#1``), or several tied layers. `weights` is the number
    of weights of one of them, since tied layers are stored once.
    """

    layers: tuple[str, ...]
    options: tuple[str, ...]
    weights: int

    @property
    def name(self) -> str:
        """The name of the first layer."""
        return self.layers[0]


@dataclass(frozen=True)
class SpaceUnit:
    """Choices that are made together: their indices, and `variants`, each an option index for every choice."""

    name: str
    choices: tuple[int, ...]
    variants: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Space:
    """The choices of a denoiser, in execution order. A recipe maps layer to option, both as text.

    A reduced space may have `units`, whose choices take one of a few variants together (`q2.search.reduced`).

    >>> space = Space.of({"q": 64, "k": 64, "v": 32}, ["uaq-4", "uaq-3"], ties=[("q", "k")])
    >>> str(space)
    '2^2 recipes, 4'
    >>> space.decode([0, 1])
    {'q': 'uaq-4', 'k': 'uaq-4', 'v': 'uaq-3'}
    """

    choices: tuple[SpaceChoice, ...]
    units: tuple[SpaceUnit, ...] = ()

    @classmethod
    def of(cls, layers: Mapping[str, int], options: Sequence[str], ties: Iterable[Collection[str]] = ()) -> "Space":
        """Make the space where every layer (name to number of weights) may take every option.

        Layers of one group in `ties` share a choice. Raises `ConfigError` for no options, the same one twice, and a
        tied layer that is not there; `OptionError` for a malformed option.
        """
        texts = tuple(str(Option.parse(option)) for option in options)
        if not texts or len(set(texts)) < len(texts):
            raise ConfigError(f"options: expected one or more, all different, not {list(options)}")
        leader: dict[str, str] = {}
        for group in map(list, ties):
            for name in group:
                if name not in layers:
                    raise ConfigError(f"ties: no weight layer {name!r}{did_you_mean(name, layers)}")
                leader[name] = group[0]
        groups: dict[str, list[str]] = {}
        for name in layers:
            groups.setdefault(leader.get(name, name), []).append(name)
        return cls(tuple(SpaceChoice(tuple(group), texts, layers[group[0]]) for group in groups.values()))

    @classmethod
    def of_graph(cls, graph: "Graph", options: Sequence[str], *, ties: bool = True) -> "Space":
        """Make the space of a denoiser: its weight layers, split ones in two, layers with the same weights as one."""
        layers: dict[str, int] = {}
        parts: dict[str, list[str]] = {}
        for name, node in graph.flow().nodes(data=True):
            if node["kind"] == "weight":
                layer, (start, stop) = graph.weight_layers[node["layer"]], node["channels"]
                layers[name] = layer.weights * (stop - start) // layer.in_channels
                parts.setdefault(node["layer"], []).append(name)
        tied: list[tuple[str, ...]] = []
        for group in graph.ties() if ties else ():
            copies: dict[tuple[int, ...], list[list[str]]] = {}  # one of two copies may be split and the other not
            for path in group:
                copies.setdefault(tuple(layers[part] for part in parts[path]), []).append(parts[path])
            tied += [part for alike in copies.values() for part in zip(*alike, strict=True)]
        return cls.of(layers, options, tied)

    def __len__(self) -> int:
        return len(self.choices)

    @cached_property
    def options(self) -> tuple[str, ...]:
        """All distinct options of the choices."""
        return tuple(dict.fromkeys(option for choice in self.choices for option in choice.options))

    @cached_property
    def columns(self) -> Indices:
        """The index in `options` of every choice's options (choices, most options), padded with -1."""
        most = max((len(choice.options) for choice in self.choices), default=0)
        places = {option: place for place, option in enumerate(self.options)}
        rows = [[places[option] for option in choice.options] for choice in self.choices]
        return np.array([row + [-1] * (most - len(row)) for row in rows], np.intp).reshape(len(self), most)

    @cached_property
    def items(self) -> "SpaceItems":
        """The variants of all groups, concatenated."""
        return SpaceItems(self)

    def places(self, indices: Sequence[int] | Indices) -> Indices:
        """Return the index in `options` of every chosen option, for one or more recipes (..., choices)."""
        return np.asarray(self.columns[np.arange(len(self)), np.asarray(indices, np.intp)])

    def limited(self, layers: Mapping[str, Sequence[str]]) -> "Space":
        """Return the space where choices with a layer that matches a regular expression have only its options.

        The first expression that matches counts; units are lost. Raises `ConfigError` for an expression that matches no
        layer, and `OptionError` for a malformed option.
        """
        found: set[str] = set()
        choices = []
        for choice in self.choices:
            matches = [text for text in layers if any(_search(text, layer) for layer in choice.layers)]
            if matches:
                found |= set(matches)
                options = Space.of({choice.name: choice.weights}, layers[matches[0]]).choices[0].options
                choice = replace(choice, options=options)  # noqa: PLW2901
            choices.append(choice)
        for text in layers:
            if text not in found:
                near = did_you_mean(text, self.layers)
                raise ConfigError(f"layers.{json.dumps(text)}: finds no layer of the search space{near}")
        return Space(tuple(choices))

    def __str__(self) -> str:
        counts = Counter(len(unit.variants) for unit in self.groups if len(unit.variants) > 1)
        powers = " · ".join(f"{options}^{count}" for options, count in sorted(counts.items(), reverse=True))
        total = f"{self.size:,}" if self.size < 10**6 else f"{Decimal(self.size):.1e}".replace("+", "")
        return f"{powers or 1} recipes, {total}"

    @cached_property
    def size(self) -> int:
        """The number of recipes."""
        return math.prod(len(unit.variants) for unit in self.groups)

    @cached_property
    def groups(self) -> tuple[SpaceUnit, ...]:
        """The independent parts: the units, and each choice outside units as a unit of its own, in execution order.

        >>> [unit.variants for unit in Space.of({"q": 64}, ["uaq-4", "uaq-3"]).groups]
        [((0,), (1,))]
        """
        held = {choice for unit in self.units for choice in unit.choices}
        alone = [
            SpaceUnit(choice.name, (i,), tuple((option,) for option in range(len(choice.options))))
            for i, choice in enumerate(self.choices)
            if i not in held
        ]
        return tuple(sorted((*self.units, *alone), key=lambda unit: min(unit.choices)))

    @cached_property
    def layers(self) -> Mapping[str, int]:
        """The index of each layer's choice, by layer, in execution order of the choices."""
        return {layer: index for index, choice in enumerate(self.choices) for layer in choice.layers}

    def decode(self, indices: Sequence[int] | Indices) -> dict[str, str]:
        """Return the recipe of a vector (choices,) of option indices."""
        chosen = [choice.options[index] for choice, index in zip(self.choices, indices, strict=True)]
        return {layer: chosen[index] for layer, index in self.layers.items()}

    def encode(self, recipe: Mapping[str, str]) -> Indices:
        """Return the vector (choices,) of a recipe, which needs to name only one of several tied layers.

        Raises `RecipeError` for a layer that is unknown or missing, an option that the space does not have, and tied
        layers with different options.

        >>> Space.of({"to_q": 64}, ["uaq-4"]).encode({"to_k": "uaq-4"})
        Traceback (most recent call last):
        q2.errors.RecipeError: layers."to_k": no such layer in the search space; did you mean 'to_q'?
        """
        for layer in recipe:
            if layer not in self.layers:
                near = did_you_mean(layer, self.layers)
                raise RecipeError(f'layers."{layer}": no such layer in the search space{near}')
        return np.array([_index(choice, recipe) for choice in self.choices], np.intp)

    def random(self, rng: np.random.Generator, low: float = 0.0, high: float = 1.0) -> Indices:
        """Draw a vector (choices,): p ~ U(`low`, `high`) is the share of the narrower of two widths.

        Each choice draws its width with probability p, then a quantizer of this width uniformly. With k > 2 widths, the
        rank of the width is binomial: the sum of k - 1 draws of narrower (p) or wider. Only widths of the choice's own
        options occur; ``none`` counts as the widest. Units draw one of their variants uniformly. Raises `ConfigError`
        unless 0 ≤ low ≤ high ≤ 1.
        """
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"share of the narrower width: expected 0 ≤ low ≤ high ≤ 1, not {low} and {high}")
        share = low + (high - low) * rng.random()
        most = max((len(levels) for levels in self._levels), default=1)
        draws = rng.random((len(self.choices), most))
        drawn = []
        for levels, draw in zip(self._levels, draws, strict=True):
            level = levels[int((draw[: len(levels) - 1] >= share).sum())]
            drawn.append(level[int(draw[-1] * len(level))])
        found = np.array(drawn, np.intp)
        for unit in self.units:
            found[list(unit.choices)] = unit.variants[int(rng.random() * len(unit.variants))]
        return found

    def draw(self, seed: int, number: int, low: float = 0.0, high: float = 1.0) -> dict[str, str]:
        """Return recipe `number` of random search with `seed`. It depends on nothing else, so that a search can resume.

        >>> space = Space.of({"q": 64, "k": 64, "v": 32}, ["uaq-4", "uaq-3"])
        >>> space.draw(42, 7) == space.draw(42, 7)
        True
        """
        return self.decode(self.random(np.random.Generator(np.random.PCG64([seed, number])), low, high))

    @cached_property
    def _levels(self) -> list[list[list[int]]]:
        """Per choice: the indices of its options, grouped by width, narrowest first."""
        levels = []
        for choice in self.choices:
            widths: dict[float, list[int]] = {}
            for index, text in enumerate(choice.options):
                option = Option.parse(text)
                widths.setdefault(float("inf") if option.is_none else option.bits, []).append(index)
            levels.append([widths[width] for width in sorted(widths)])
        return levels


class SpaceItems:
    """The N variants of a space's G groups, concatenated; a recipe takes one item of each group.

    `owner` (N,) is the index of every item's group, `start` (G,) the index of every group's first item.
    """

    def __init__(self, space: Space) -> None:
        self.groups = space.groups
        sizes = np.array([len(group.variants) for group in self.groups], np.intp)
        self.owner: Indices = np.repeat(np.arange(len(sizes)), sizes)
        self.start: Indices = np.cumsum(sizes) - sizes
        self._variants = [np.array(group.variants, np.intp) for group in self.groups]
        self._choices = [np.array(group.choices, np.intp) for group in self.groups]
        wide = [np.broadcast_to(own, rows.shape) for own, rows in zip(self._choices, self._variants, strict=True)]
        lengths = np.repeat([len(own) for own in self._choices], sizes).astype(np.intp)
        self._item: Indices = np.repeat(np.arange(len(self.owner)), lengths)
        self._choice: Indices = np.concatenate([part.reshape(-1) for part in wide] or [np.zeros(0, np.intp)])
        options = np.concatenate([part.reshape(-1) for part in self._variants] or [np.zeros(0, np.intp)])
        self._column: Indices = space.columns[self._choice, options]

    def added(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each item's contribution (N,) to a sum over a table (choices, options of the whole space)."""
        found = np.bincount(self._item, table[self._choice, self._column], len(self.owner))
        return np.asarray(found, np.float64)

    def held(self, indices: Indices) -> Indices:
        """Return the index of every group's item (G,) in a recipe (choices,) of the space."""
        pairs = zip(self.start, self._variants, self._choices, strict=True)
        return np.array([first + int((rows == indices[own]).all(1).argmax()) for first, rows, own in pairs], np.intp)

    def put(self, indices: Indices, item: int) -> None:
        """Change a recipe (choices,) in place so that it contains an item."""
        group = self.owner[item]
        indices[self._choices[group]] = self._variants[group][item - self.start[group]]


def _search(text: str, layer: str) -> bool:
    try:
        return re.search(text, layer) is not None
    except re.error as error:
        raise ConfigError(f"layers.{json.dumps(text)}: no regular expression: {error}") from None


def _index(choice: SpaceChoice, recipe: Mapping[str, str]) -> int:
    named = [layer for layer in choice.layers if layer in recipe]
    if not named:
        raise RecipeError(f'layers."{choice.name}": missing, every layer of the search space needs an option')
    first, text = named[0], recipe[named[0]]
    if len(named) == 1 and text in choice.options:
        return choice.options.index(text)
    for layer in named:
        if recipe[layer] != text:
            tied = f"{first!r}, which holds the same weights, has {text!r}"
            raise RecipeError(f'layers."{layer}": {recipe[layer]!r}, but {tied}')
    try:
        return choice.options.index(str(Option.parse(text)))
    except (OptionError, ValueError):
        near = did_you_mean(text, choice.options)
        raise RecipeError(f'layers."{first}": {text!r} is no option of the search space{near}') from None
