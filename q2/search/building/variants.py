"""Variants: a unit's choices with options for all of them, with scores; recipes are put together from one per unit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from q2.errors import ConfigError
from q2.search.building.knapsack import Built, Group, Knapsack
from q2.search.evaluation.costs import Costs
from q2.search.space import Indices, Space

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["Piece", "Variants", "knapsack_of", "pieces_of", "put_together", "single_choices"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """A unit as the space sees it: the numbers of its choices, in execution order."""

    name: str
    choices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Variants:
    """V variants of a piece with C choices: the index of each choice's option (V, C), and their scores (V,)."""

    piece: Piece
    options: Indices
    scores: Array

    def group(self, costs: Costs) -> Group:
        """Return them as a group to build from, with what they add to every metric of `costs`."""
        choices = np.array(self.piece.choices, np.intp)
        columns = costs.space.columns[choices, self.options]
        return Group(
            self.piece.name, self.scores, {name: table[choices, columns].sum(1) for name, table in costs.tables.items()}
        )


def pieces_of(graph: "Graph", space: Space) -> list[Piece]:
    """Return the units of a denoiser's graph as pieces that partition the space's choices.

    A choice whose tied layers lie in several units belongs to the first; one that no unit holds is a piece of its own.
    """
    ties = any(len(choice.layers) > 1 for choice in space.choices)
    taken: set[int] = set()
    pieces = []
    for unit in graph.units(ties=ties):
        own = dict.fromkeys(space.layers[layer] for layer in unit.layers if layer in space.layers)
        new = tuple(sorted(own.keys() - taken))
        if new:
            pieces.append(Piece(unit.name, new))
            taken.update(new)
    alone = [Piece(choice.name, (i,)) for i, choice in enumerate(space.choices) if i not in taken]
    return sorted([*pieces, *alone], key=lambda piece: piece.choices)


def single_choices(space: Space, scores: Array) -> list[Variants]:
    """Return every choice as a piece, its options as variants; `scores` are (choices, options of the whole space)."""
    return [
        Variants(Piece(choice.name, (i,)), np.arange(len(choice.options))[:, None], scores[i, row[row >= 0]])
        for i, (choice, row) in enumerate(zip(space.choices, space.columns, strict=True))
    ]


def knapsack_of(costs: Costs, variants: Sequence[Variants]) -> Knapsack:
    """Return what recipes are built from. Raises `ConfigError` unless every choice is in one piece, and in one only."""
    held = [choice for part in variants for choice in part.piece.choices]
    for i, choice in enumerate(costs.space.choices):
        if held.count(i) != 1:
            raise ConfigError(f"units: {choice.name!r} is in {held.count(i)} of them, expected one")
    return Knapsack([part.group(costs) for part in variants], costs.constants)


def put_together(space: Space, variants: Sequence[Variants], built: Built) -> Indices:
    """Return the recipe that was built, as a vector (choices,) of option indices."""
    indices = np.zeros(len(space), np.intp)
    for part, item in zip(variants, built.items, strict=True):
        indices[list(part.piece.choices)] = part.options[item]
    return indices
