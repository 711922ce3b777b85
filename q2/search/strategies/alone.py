"""Choices quantized alone, all others exact: how much an error of each harms the image, as in MixDQ (ECCV'24)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from q2.errors import ConfigError
from q2.passes import Step
from q2.quant.options import NONE
from q2.search.building.variants import knapsack_of, put_together, single_choices
from q2.search.objective.constraints import Constraint
from q2.search.space import Indices, Space
from q2.search.strategies.base import Problem, Proposal, Searcher
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

__all__ = ["Alone", "LeastErrors", "check_alone", "signal_of"]

Array = NDArray[np.float64]
_SPREAD, _FURTHER, _ATTEMPTS = 0.5, 1.05, 100


def signal_of(fidelity: Fidelity) -> str:
    """Return the metric that tells how far a trial at a fidelity is from full precision, in dB.

    >>> signal_of("forward"), signal_of("few-step")
    ('SQNR', 'latent-SQNR')
    """
    return "SQNR" if fidelity == "forward" else "latent-SQNR"


def check_alone(space: Space) -> None:
    """Raise `ConfigError` where a choice cannot stay exact."""
    closed = [choice.name for choice in space.choices if len(choice.options) > 1 and NONE not in choice.options]
    if closed:
        raise ConfigError(f"measures layers one by one, the others exact: {closed[0]!r} needs the option {NONE!r} too")


class Alone:
    """The trials that tell, one a choice and one of none, and what follows from them.

    `errors` (choices, options) are those that are to be weighted; `fidelity` is that of the trials.
    """

    def __init__(self, problem: Problem, errors: Array, fidelity: Fidelity) -> None:
        self.problem, self.errors, self.fidelity = problem, errors, fidelity
        space = problem.space
        self.exact = np.array([_exact(choice.options, self._own(i)) for i, choice in enumerate(space.choices)], np.intp)
        self.probes = [(i, probe) for i in range(len(space)) if (probe := self._probe(i)) is not None]

    def proposals(self) -> list[Proposal]:
        """Return the trials: first the one with every choice exact."""
        recipes = [self.exact, *(self._alone(i, probe) for i, probe in self.probes)]
        return [Proposal(self.problem.space.decode(recipe), self.fidelity) for recipe in recipes]

    def weighted(self, trials: Sequence[Trial], name: str) -> Array:
        """Return the errors (choices, options), each choice's times what a unit of error does to the image.

        `trials` are those of `proposals`; of a choice whose trial failed nothing is known: it counts as the middle of
        the others. `name` is what is shown as the step. Raises `ConfigError` where all failed.
        """
        values = [trial.metrics.get(signal_of(self.fidelity), math.nan) for trial in trials]
        base, *ratios = [10 ** (-value / 10) for value in values]
        base = base if math.isfinite(base) else 0.0
        table, gains = self.errors.copy(), dict[int, float]()
        for (choice, probe), ratio in zip(self.probes, ratios, strict=True):
            added = max(ratio - base, 1e-3 * ratio)
            if math.isfinite(added):
                gains[choice] = added / self._own(choice)[probe]
        if not gains:
            raise ConfigError("all trials of single layers failed")
        middle = float(np.median(list(gains.values())))
        for choice in range(len(table)):
            table[choice] *= gains.get(choice, middle)
        least, most = min(gains.values()), max(gains.values())
        line = f"{len(gains)} choices measured alone; an error counts from {least:.1e} to {most:.1e}"
        self.problem.show(Step(name, 0, line))
        return np.asarray(table)

    def _own(self, choice: int) -> Array:
        row = self.problem.space.columns[choice]
        return np.asarray(self.errors[choice, row[row >= 0]])

    def _probe(self, choice: int) -> int | None:
        """Return the option that a choice is measured with: of those with an error the one in the middle."""
        own = self._own(choice)
        wrong = [int(i) for i in np.argsort(own, kind="stable") if own[i] > 0 and i != self.exact[choice]]
        return wrong[len(wrong) // 2] if wrong else None

    def _alone(self, choice: int, option: int) -> Indices:
        recipe = self.exact.copy()
        recipe[choice] = option
        return recipe


class LeastErrors(Searcher):
    """Asks for recipes of least weighted error within the constraints, each once; without any, at drawn budgets.

    The first goes by `errors` (choices, options) themselves; for the others every choice's are multiplied by a factor
    around 1, as sensitivities are not known exactly.
    """

    def __init__(self, problem: Problem, errors: Array) -> None:
        self.problem, self.errors = problem, errors
        self.drawn, self.spread, self.asked = 0, _SPREAD, set[bytes]()

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes: what is drawn twice is drawn again, further away, but not for ever."""
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
        """Learn nothing."""

    def _next(self) -> Indices:
        problem, rng = self.problem, np.random.default_rng([self.problem.seed, self.drawn])
        factors = np.exp(self.spread * rng.normal(size=(len(self.errors), 1)) * (self.drawn > 0))
        bounds = problem.constraints
        if not bounds:
            bounds = (Constraint("avg_bits", "<=", float(rng.uniform(*problem.costs.extent("avg_bits")))),)
        self.drawn += 1
        variants = single_choices(problem.space, -self.errors * factors)
        return put_together(problem.space, variants, knapsack_of(problem.costs.finite(), variants).solve(bounds))


def _exact(options: Sequence[str], errors: Array) -> int:
    return options.index(NONE) if NONE in options else int(np.argmin(errors))
