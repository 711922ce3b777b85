"""Learn from random trials, then build: the predictor of Qua²SeDiMo (AAAI'25), with an exact solver for the builds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from q2.errors import ConfigError
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.strategies.random import Random
from q2.search.trials.trial import Trial

if TYPE_CHECKING:
    from q2.search.predictor.learn import Learner

__all__ = ["Predictor"]

_LEAST = 3  # trials a fold


@dataclass(frozen=True)
class Predictor(Strategy):
    """Random recipes first, then rounds of training on all trials and building recipes from what was learnt.

    `random` is the share of random trials; the rest goes to `rounds` alike. Recipes are built from `scores`: the
    predictor's ``labels`` (Qua²SeDiMo), its ``effects`` (partial dependence) or the coefficients of ``ridge``
    regression. `loss`, `folds` and `epochs` are the predictor's, trained `jobs` folds at a time.
    """

    name: ClassVar[str] = "predictor"
    random: float = 0.6
    rounds: int = 2
    scores: Literal["labels", "effects", "ridge"] = "ridge"
    loss: Literal["srcc", "ndcg", "hybrid"] = "hybrid"
    folds: int = 5
    epochs: int = 60
    jobs: int = 1

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `ConfigError` for options out of range, and too few random trials for the folds."""
        where = "search.strategies.predictor"
        if not 0 < self.random <= 1:
            raise ConfigError(f"{where}.random: expected a share above 0 and up to 1, not {self.random:g}")
        for key, least in (("rounds", 1), ("folds", 2), ("epochs", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"{where}.{key}: expected {least} or more, not {getattr(self, key)}")
        first = round(self.random * problem.trials)
        if first < _LEAST * self.folds and first < problem.trials:
            raise ConfigError(
                f"search.trials: {first} of {problem.trials} are random (search.strategies.predictor.random), and"
                f" {self.folds} folds need at least {_LEAST * self.folds}"
            )
        return _Searcher(self, problem, first)


class _Searcher(Searcher):
    def __init__(self, options: Predictor, problem: Problem, first: int) -> None:
        self.options, self.problem, self.first = options, problem, first
        self.random = Random().searcher(problem)
        self.trials: list[Trial] = []
        self.told = 0
        self._learner: Learner | None = None

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the random recipes, as many more as failed too early, then the builds of one round after the other."""
        wanted = max(self.first - self.told, self._lacks())
        if wanted > 0:
            return self.random.ask(min(most, wanted))
        return [Proposal(recipe) for recipe in self.learner.round(self.trials, min(most, self._share()))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the trials for the next round to learn from."""
        self.told += len(trials)
        self.trials += trials
        if self.told >= self.problem.trials and self._learner is not None:
            self._learner.finish()

    @property
    def learner(self) -> "Learner":
        """What learns; made when it is needed, since it imports torch."""
        if self._learner is None:
            from q2.search.predictor.learn import Learner

            self._learner = Learner(self.problem, self.options)
        return self._learner

    def _lacks(self) -> int:
        """Return how many trials must yet go well until there are enough to learn from: some may have failed."""
        return _LEAST * self.options.folds - len({trial.id for trial in self.trials if trial.state == "complete"})

    def _share(self) -> int:
        """Return how many trials the next round has: the rest, shared evenly, the last rounds have one less."""
        rest, rounds = self.problem.trials - self.first, self.options.rounds
        done, shares = self.told - self.first, [len(range(i, rest, rounds)) for i in range(rounds)]
        ends = [sum(shares[: i + 1]) for i in range(rounds)]
        return next((end - done for end in ends if end > done), rest - done)
