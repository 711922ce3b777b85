"""What scores say, as lists: every unit's variants or layer's options by score; and the best of them as a space."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal

import numpy as np

from q2.errors import PredictorError, there_are
from q2.search.predictor.combined import NamedPart, best_first
from q2.search.predictor.dataset import Ints
from q2.search.predictor.space import NodeSpace
from q2.search.reduced import ReducedSpace, UnitVariants

__all__ = ["SORTS", "RankedVariant", "Sort", "ranked", "reduced"]

Sort = Literal["order", "name", "score", "spread", "avg_bits"]


@dataclass(frozen=True)
class RankedVariant:
    """A variant of a unit, or an option of a layer, with its score.

    `rank` is its place among the unit's, 1 the best; `sd` the deviation of its score over folds (or files); `spread`
    the best score of the unit minus the worst: how much the unit matters. `avg_bits` are the bits of its weights.
    """

    name: str
    kind: str
    rank: int
    of: int
    score: float
    sd: float
    spread: float
    avg_bits: float
    layers: tuple[str, ...]
    options: tuple[str, ...]

    def row(self) -> dict[str, object]:
        """Return it as a row of a table: layers and options as text."""
        return asdict(self) | {"layers": " ".join(self.layers), "options": " ".join(self.options)}

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """Return the names of a row's columns."""
        return tuple(entry.name for entry in fields(cls))


_KEYS: dict[str, Callable[[RankedVariant], tuple[float | str, ...]]] = {
    "name": lambda row: (row.name, row.rank),
    "score": lambda row: (-row.score,),
    "spread": lambda row: (-row.spread, row.name, row.rank),
    "avg_bits": lambda row: (row.avg_bits, -row.score),
}
SORTS = ("order", *_KEYS)


def ranked(
    space: NodeSpace,
    parts: Sequence[NamedPart],
    *,
    match: str = "",
    option: str = "",
    top: int = 0,
    sort: Sort = "order",
) -> list[RankedVariant]:
    """Return every variant of every part: in execution order, a part's best first, or by `sort`.

    `match` is a regular expression that must be found in a part's name, its kind or a layer's name; `option` one that
    a variant must have somewhere; `top` how many of every part (0: all), counted before `option` is looked at. Scores
    are sorted from the highest, spreads too; bits from the lowest. Raises PredictorError.
    """
    try:
        pattern = re.compile(match)
    except re.error as error:
        raise PredictorError(f"{match!r}: no regular expression: {error}") from error
    if option and option not in space.options:
        raise PredictorError(f"no option {option!r} in these labels{there_are(option, space.options)}")
    found = []
    for part in parts:
        layers = tuple(space.choices[i] for i in part.choices)
        if not any(pattern.search(text) for text in (part.name, part.kind, *layers)):
            continue
        found += [row for row in _rows(space, part, layers, top) if not option or option in row.options]
    if match and not found and not option:
        raise PredictorError(f"no unit or layer that {match!r} is found in{there_are(match, [p.name for p in parts])}")
    return sorted(found, key=_KEYS[sort]) if sort != "order" else found


def reduced(space: NodeSpace, every: Sequence[Sequence[NamedPart]], top: int, made: str) -> ReducedSpace:
    """Return the space of the `top` best variants of every unit, or options of every layer.

    Of several lists of parts (files that are not summed), what is among the best of any. The best come first.
    """
    found: ReducedSpace | None = None
    for parts in every:
        own = _reduced(space, parts, top, made)
        found = own if found is None else found.united(own)
    assert found is not None
    return found


def _reduced(space: NodeSpace, parts: Sequence[NamedPart], top: int, made: str) -> ReducedSpace:
    layers: dict[str, tuple[str, ...]] = {}
    units = []
    for part in parts:
        best = part.variants[best_first(part)[:top]]
        if len(part.choices) == 1:
            layers[space.choices[part.choices[0]]] = tuple(space.options[i] for i in best[:, 0])
        else:
            names = tuple(space.choices[i] for i in part.choices)
            variants = tuple(tuple(space.options[i] for i in row) for row in best)
            units.append(UnitVariants(part.name, names, variants))
    nodes = space.topology.nodes
    copies = {nodes[i]: space.choices[space.choice[i]] for i in space.topology.weights}
    copies = {name: leader for name, leader in copies.items() if name != leader}
    return ReducedSpace(space.made.subject, layers, tuple(units), copies, made)


def _rows(space: NodeSpace, part: NamedPart, layers: tuple[str, ...], top: int) -> list[RankedVariant]:
    total, order = part.total, best_first(part)
    spread = float(np.ptp(total))
    weights = space.weights[part.choices].sum()
    rows = []
    for rank, i in enumerate(order[: top or None].tolist(), 1):
        chosen: Ints = part.variants[i]
        bits = float(space.bits[part.choices, chosen].sum() / weights)
        options = tuple(space.options[option] for option in chosen)
        sd = float(part.scores[i].std())
        rows.append(
            RankedVariant(part.name, part.kind, rank, len(total), float(total[i]), sd, spread, bits, layers, options)
        )
    return rows
