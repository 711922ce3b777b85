"""Trials that quantize one choice and keep all others exact: how much noise each choice adds (MixDQ, ECCV'24)."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from q2.errors import ConfigError
from q2.passes import Step
from q2.quant.options import NONE
from q2.quant.sensitivity import AloneFidelity, SensitivityTable, one_at_a_time, signal_of
from q2.search.building.variants import knapsack_of, put_together, single_choices
from q2.search.metrics.base import LADDER
from q2.search.objective.constraints import Constraint
from q2.search.space import Indices, Space
from q2.search.strategies.base import Problem, Proposal, Searcher
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

__all__ = ["Alone", "AloneFirst", "LeastErrors", "check_alone", "check_cheaper", "every_option", "one_option_each"]

Array = NDArray[np.float64]
_SPREAD, _FURTHER, _ATTEMPTS = 0.5, 1.05, 100


def check_alone(space: Space) -> None:
    """Raise `ConfigError` for a choice that has several options but not ``none``: it cannot stay exact."""
    closed = [choice.name for choice in space.choices if len(choice.options) > 1 and NONE not in choice.options]
    if closed:
        raise ConfigError(
            f"layers are measured one at a time, all others exact: {closed[0]!r} needs the option {NONE!r} too"
        )


def check_cheaper(fidelity: Fidelity, problem: Problem) -> None:
    """Raise `ConfigError` unless `fidelity` is cheaper than the search's, so that its trials do not use the budget."""
    if LADDER.index(fidelity) >= LADDER.index(problem.fidelity):
        raise ConfigError(f"fidelity: expected a cheaper one than the search's, {problem.fidelity!r}")


class Alone:
    """Trials that measure choices one at a time, at `fidelity`.

    In the first trial every choice is exact. Then comes one trial for each of `probes`, pairs of a choice's index and
    the index of the option that it is quantized with.
    """

    def __init__(self, problem: Problem, fidelity: Fidelity, probes: Sequence[tuple[int, int]]) -> None:
        self.problem, self.fidelity, self.probes = problem, fidelity, probes
        self.exact = _exact(problem.space)

    def proposals(self) -> list[Proposal]:
        """Return the proposals; in the first, every choice is exact."""
        recipes = [self.exact, *(self._alone(i, option) for i, option in self.probes)]
        return [Proposal(self.problem.space.decode(recipe), self.fidelity) for recipe in recipes]

    def measured(self, trials: Sequence[Trial]) -> SensitivityTable:
        """Return the SQNR, in dB, of the trials of `proposals`. Raises `ConfigError` if all but the first failed."""
        values = [trial.metrics.get(signal_of(self.fidelity), math.nan) for trial in trials]
        base, found = values[0] if math.isfinite(values[0]) else math.inf, dict[str, dict[str, float]]()
        choices = self.problem.space.choices
        for (i, option), value in zip(self.probes, values[1:], strict=True):
            found.setdefault(choices[i].name, {})[choices[i].options[option]] = value
        if not any(math.isfinite(value) for row in found.values() for value in row.values()):
            raise ConfigError("all trials of single layers failed")
        start = self.problem.space.decode(self.exact)
        fidelity: AloneFidelity = "forward" if self.fidelity == "forward" else "few-step"
        return SensitivityTable("", self.problem.subject.fingerprint, fidelity, base=start, base_db=base, sqnr_db=found)

    def weighted(self, trials: Sequence[Trial], errors: Array, name: str) -> Array:
        """Return `errors` (choices, options), each choice's row multiplied by the noise that a unit of error adds.

        `trials` are the trials of `proposals`, one for each choice. A choice's factor is the noise that its trial added
        (relative to the signal), divided by the error of the option tried. A choice whose trial failed gets the median
        factor. `name` is the title of the step shown. Raises `ConfigError` if all trials of single choices failed.
        """
        table, space = self.measured(trials), self.problem.space
        gains, weighted = dict[int, float](), errors.copy()
        for i, option in self.probes:
            added = table.added(space.choices[i].name, space.choices[i].options[option])
            if math.isfinite(added):
                gains[i] = added / float(errors[i, space.columns[i, option]])
        middle = float(np.median(list(gains.values())))
        for choice in range(len(weighted)):
            weighted[choice] *= gains.get(choice, middle)
        least, most = min(gains.values()), max(gains.values())
        line = f"{len(gains)} choices measured one at a time; noise per unit of error from {least:.1e} to {most:.1e}"
        self.problem.show(Step(name, 0, line))
        return np.asarray(weighted)

    def _alone(self, choice: int, option: int) -> Indices:
        recipe = self.exact.copy()
        recipe[choice] = option
        return recipe


class AloneFirst(Searcher):
    """Proposes all trials of single choices at once, and afterwards the recipes that `recipes` computes from them.

    These recipes are vectors (choices,) of option indices.
    """

    def __init__(self, alone: Alone, recipes: Callable[[Sequence[Trial]], Iterator[Indices]]) -> None:
        self.alone, self.recipes = alone, recipes
        self.found: Iterator[Indices] | None = None

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the trials of single choices first, then the next recipes."""
        if self.found is None:
            return self.alone.proposals()
        return [Proposal(self.alone.problem.space.decode(recipe)) for recipe in islice(self.found, most)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Compute the recipes from the trials of single choices; ignore later trials."""
        if self.found is None:
            self.found = self.recipes(trials)


def one_option_each(space: Space, errors: Array) -> list[tuple[int, int]]:
    """Return pairs of a choice's index and the index of the option to measure it with: the one of median error.

    `errors` are (choices, options of the whole space). Options without an error do not count; a choice that has no
    other options is left out.
    """
    found = []
    exact = _exact(space)
    for i, row in enumerate(space.columns):
        own = errors[i, row[row >= 0]]
        wrong = [int(j) for j in np.argsort(own, kind="stable") if own[j] > 0 and j != exact[i]]
        found += [(i, wrong[len(wrong) // 2])] if wrong else []
    return found


def every_option(space: Space) -> list[tuple[int, int]]:
    """Return pairs of a choice's index and an option's index: all options that are not exact."""
    places = {choice.name: i for i, choice in enumerate(space.choices)}
    options = {choice.name: choice.options for choice in space.choices}
    start = space.decode(_exact(space))
    return [(places[name], options[name].index(option)) for name, option in one_at_a_time(options, start)]


class LeastErrors(Searcher):
    """Proposes recipes of least weighted error that satisfy the constraints, each once.

    Without constraints, every recipe gets a random budget of average bits. The first recipe minimizes the sum of
    `errors` (choices, options). For every later one, the errors of each choice are multiplied by a random factor around
    1, since sensitivities are not known exactly.
    """

    def __init__(self, problem: Problem, errors: Array) -> None:
        self.problem, self.errors = problem, errors
        self.drawn, self.spread, self.asked = 0, _SPREAD, set[bytes]()

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes; a repeated one is drawn again with a larger spread, a limited number of times."""
        found: list[Proposal] = []
        for _ in range(most + _ATTEMPTS):
            if len(found) == most:
                break
            recipe = self._next()
            if recipe.tobytes() in self.asked:
                self.spread *= _FURTHER
                continue
            self.asked.add(recipe.tobytes())
            found.append(Proposal(self.problem.space.decode(recipe)))
        return found

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing: no recipe depends on a trial."""

    def _next(self) -> Indices:
        problem, rng = self.problem, np.random.default_rng([self.problem.seed, self.drawn])
        factors = np.exp(self.spread * rng.normal(size=(len(self.errors), 1)) * (self.drawn > 0))
        bounds = problem.constraints
        if not bounds:
            bounds = (Constraint("avg_bits", "<=", float(rng.uniform(*problem.costs.extent("avg_bits")))),)
        self.drawn += 1
        variants = single_choices(problem.space, -self.errors * factors)
        return put_together(problem.space, variants, knapsack_of(problem.costs.finite(), variants).solve(bounds))


def _exact(space: Space) -> Indices:
    """Return the recipe with every choice exact; a choice without ``none`` has a single option, see `check_alone`."""
    return np.array([c.options.index(NONE) if NONE in c.options else 0 for c in space.choices], np.intp)
