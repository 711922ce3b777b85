"""Evolutionary search: mutants of the Pareto front, whose units take their best variants (AutoBuild, CVPR'24)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from q2.errors import ConfigError
from q2.search.building.feasible import admitted, repaired
from q2.search.building.variants import Piece, pieces_of
from q2.search.metrics.pareto import pareto_front
from q2.search.space import Indices
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.trials.trial import Trial

__all__ = ["Evolution", "best_variants"]

_ATTEMPTS = 200
_REPAIRS = 50
_FEW = 3.0


@dataclass(frozen=True)
class Evolution(Strategy):
    """`population` random recipes, then rounds of as many mutants of the Pareto front of target and average bits.

    A mutant replaces each unit of its parent, with probability `rate`, by one of the unit's `top` variants: those whose
    trials had the highest values, at most half of all variants. With ``top = 0`` it may be any variant, and in a
    reduced space with units any variant listed there. `low` and `high` bound the share of the narrower width in random
    recipes (see `random`).
    """

    name: ClassVar[str] = "evolution"
    keeps_units: ClassVar[bool] = True
    population: Annotated[int, Field(ge=1)] = 50
    """Recipes per round."""
    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The probability that a mutant replaces a unit."""
    top: Annotated[int, Field(ge=0)] = 8
    """Number of a unit's best variants that a mutant chooses from, at most half of all; 0: any variant."""
    low: float = 0.0
    """Smallest share of layers with the narrower width in random recipes."""
    high: float = 1.0
    """Largest share of layers with the narrower width in random recipes."""

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher."""
        problem.costs.check(["avg_bits"])
        return _Evolution(self, problem)


class _Evolution(Searcher):
    def __init__(self, strategy: Evolution, problem: Problem) -> None:
        self.strategy, self.problem = strategy, problem
        self.any = bool(problem.space.units) or not strategy.top
        if problem.space.units:
            self.pieces = [Piece(group.name, group.choices) for group in problem.space.groups]
        else:
            self.pieces = pieces_of(problem.graph, problem.space)
        self.drawn = 0
        self.left = strategy.population
        self.known: set[tuple[int, ...]] = set()
        self.asked: list[Indices] = []
        self.tried: list[Indices] = []
        self.values: list[float] = []
        self.parents: list[Indices] = []
        self.variants: list[Indices] = []

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the rest of the round; the parents are chosen when a round begins."""
        if not self.left:
            self._next_round()
        self.asked = []
        while len(self.asked) < min(most, self.left):
            found = self._new()
            if found is None:
                break
            self.known.add(tuple(found.tolist()))
            self.asked.append(found)
        self.left -= len(self.asked)
        return [Proposal(self.problem.space.decode(indices)) for indices in self.asked]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Store the values of complete trials."""
        done = [(asked, trial) for asked, trial in zip(self.asked, trials, strict=True) if trial.state == "complete"]
        if done:
            self.values += self.problem.values([trial for _, trial in done])
            self.tried += [indices for indices, _ in done]

    def _next_round(self) -> None:
        self.left = self.strategy.population
        if not self.tried:
            return
        tried, values = np.array(self.tried), np.array(self.values)
        bits = self.problem.costs.value("avg_bits", tried)
        self.parents = list(tried[pareto_front(np.stack([bits, -values], axis=1))])
        if not self.any:
            columns, top = self.problem.space.columns, self.strategy.top
            self.variants = best_variants(columns, self.pieces, tried, values, top)

    def _new(self) -> Indices | None:
        """Return a new recipe that satisfies the constraints; None if none is found."""
        for draw in (self._mutant, self._random) if self.parents else (self._random,):
            broken = []
            for _ in range(_ATTEMPTS if len(self.known) < self.problem.space.size else 0):
                found = draw()
                if self._fits(found):
                    return found
                broken.append(found)
            for candidate in self._mended(broken[-_REPAIRS:]):
                if self._fits(candidate):
                    return candidate
        if not self.known:
            bounds = " and ".join(f"'{bound}'" for bound in self.problem.constraints)
            raise ConfigError(f"search.constraints: found no recipe that satisfies {bounds}; try ilp-error")
        return None

    def _fits(self, indices: Indices) -> bool:
        new = tuple(indices.tolist()) not in self.known
        return new and bool(admitted(self.problem.costs, self.problem.constraints, indices))

    def _mended(self, broken: Sequence[Indices]) -> Iterator[Indices]:
        for indices in broken if self.problem.constraints else ():
            found = repaired(self.problem.costs, self.problem.constraints, indices, self._rng(1))
            if found is not None:
                yield found

    def _rng(self, *stream: int) -> np.random.Generator:
        """Return the generator of the next draw; without `stream` it draws what random search draws."""
        self.drawn += 1
        return np.random.Generator(np.random.PCG64([self.problem.seed, self.drawn - 1, *stream]))

    def _random(self) -> Indices:
        return self.problem.space.random(self._rng(), self.strategy.low, self.strategy.high)

    def _mutant(self) -> Indices:
        rng = self._rng(2)
        found = self.parents[rng.integers(len(self.parents))].copy()
        for i, piece in enumerate(self.pieces):
            if rng.random() < self.strategy.rate:
                found[list(piece.choices)] = self._variant(i, piece, rng)
        return found

    def _variant(self, number: int, piece: Piece, rng: np.random.Generator) -> Indices:
        """Draw a variant of a piece: one of its best, or of all variants in the space."""
        space = self.problem.space
        if space.units:
            variants = space.groups[number].variants
            return np.array(variants[rng.integers(len(variants))], np.intp)
        if self.any:
            return np.array([rng.integers(len(space.choices[choice].options)) for choice in piece.choices], np.intp)
        return np.asarray(self.variants[number][rng.integers(len(self.variants[number]))])


def best_variants(
    columns: Indices, pieces: Sequence[Piece], tried: Indices, values: NDArray[np.float64], top: int
) -> list[Indices]:
    """Return the `top` variants of every piece, at most half of all, best first, as option indices (V, C).

    V are the variants and C the piece's choices. A variant's score is the mean value of the trials that contain it. The
    fewer these are, the more the score relies on the sum of the choices' own means, which also ranks variants that no
    trial contains. `tried` are recipes (trials, choices) with their `values` (trials,), `columns` is `Space.columns`.
    """
    above = values - values.mean()
    total, count = np.zeros(columns.shape), np.zeros(columns.shape)
    rows = np.broadcast_to(np.arange(len(columns)), tried.shape)
    np.add.at(total, (rows, tried), above[:, None])
    np.add.at(count, (rows, tried), 1.0)
    effects = total / (count + _FEW)
    found = []
    for piece in pieces:
        own = np.array(piece.choices, np.intp)
        keep = min(top, (math.prod(np.count_nonzero(columns[own] >= 0, axis=1).tolist()) + 1) // 2)
        seen, which = np.unique(tried[:, own], axis=0, return_inverse=True)
        variants = np.unique(np.concatenate([_best_sums(effects, columns, own, keep), seen]), axis=0)
        sums = effects[own, variants].sum(1)
        place = {tuple(variant): i for i, variant in enumerate(variants.tolist())}
        at = np.array([place[tuple(variant)] for variant in seen.tolist()], np.intp)[which.reshape(-1)]
        scores = (np.bincount(at, above, len(variants)) + _FEW * sums) / (np.bincount(at, None, len(variants)) + _FEW)
        found.append(variants[np.argsort(-scores, kind="stable")[:keep]])
    return found


def _best_sums(effects: NDArray[np.float64], columns: Indices, own: Indices, top: int) -> Indices:
    """Return the `top` variants (V, C) of the choices `own` with the largest sums of effects, exactly."""
    best, sums = np.zeros((1, 0), np.intp), np.zeros(1)
    for choice in own:
        options = np.flatnonzero(columns[choice] >= 0)
        grown = (sums[:, None] + effects[choice, options]).reshape(-1)
        keep = np.argsort(-grown, kind="stable")[:top]
        best = np.column_stack([np.repeat(best, len(options), axis=0), np.tile(options, len(best))])[keep]
        sums = grown[keep]
    return best
