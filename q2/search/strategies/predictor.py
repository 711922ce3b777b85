"""Learn from random trials, then build: the predictor of Qua²SeDiMo (AAAI'25), with an exact solver for the builds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from q2.errors import ConfigError
from q2.quant.sensitivity import signal_of
from q2.search.metrics.base import LADDER, Array
from q2.search.strategies.alone import Alone, LeastErrors, check_alone, one_option_each
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.strategies.random import Random
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

if TYPE_CHECKING:
    from q2.search.predictor.learn import Learner

__all__ = ["Predictor"]

_A_FOLD, _LEAST = 3, 8  # trials, as `q2.search.predictor.train.folds_of` wants them


@dataclass(frozen=True)
class Predictor(Strategy):
    """Random recipes first, then rounds of training on all trials and building recipes from what was learnt.

    `random` is the share of random trials; the rest goes to `rounds` alike. Recipes are built from `scores`: the
    predictor's ``labels`` (Qua²SeDiMo), its ``effects`` (partial dependence) or the coefficients of ``ridge``
    regression. `loss`, `folds` and `epochs` are the predictor's, trained `jobs` folds at a time on `device`, where
    ``auto`` is CUDA if there is one; `attention` is the code that passes messages.

    With `alone`, a fidelity, every choice is first quantized alone, as `sensitivity` does it; at the search's own
    fidelity these trials count. Then the errors are weighted by what that says, and in place of random recipes come
    those of least error, with weights drawn around these.
    """

    name: ClassVar[str] = "predictor"
    random: float = 0.6
    """The share of the trials that are random (docs/predictor.md)."""
    rounds: int = 2
    """Rounds of learning and building in the rest."""
    scores: Literal["labels", "effects", "ridge"] = "ridge"
    """What recipes are built from: `ridge`, `labels` or `effects`."""
    loss: Literal["srcc", "ndcg", "hybrid"] = "hybrid"
    """The loss of the predictor's networks, where these are trained."""
    folds: int = 5
    """Folds of their cross-validation."""
    epochs: int = 60
    """Epochs at most."""
    jobs: int = 1
    """Folds at a time."""
    device: str = "auto"
    """Where the predictor trains: a device of PyTorch; `auto` takes CUDA where there is one."""
    attention: Literal["auto", "fused", "pyg"] = "auto"
    """Which code passes messages: `fused`, q2's kernel for CPUs, or `pyg`, PyTorch Geometric's; `auto` chooses by
    the device."""
    alone: Literal["", "forward", "few-step"] = ""
    """`forward` or `few-step`: quantize every choice alone first, and start from what that says; empty: do not."""

    def expressions(self) -> dict[str, str]:
        """Return what must be measured."""
        return {"alone": signal_of(self.alone)} if self.alone else {}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity of the trials of single choices."""
        return [self.alone] if self.alone else []

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for options out of range, and for too few random trials for the folds."""
        if not 0 < self.random <= 1:
            raise ConfigError(f"random: expected a share above 0 and up to 1, not {self.random:g}")
        for key, least in (("rounds", 1), ("folds", 2), ("epochs", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: expected {least} or more, not {getattr(self, key)}")
        if self.scores != "ridge":
            from q2.search.predictor.train import Training

            Training(device=self.device, attention=self.attention).place()
        trials = problem.trials
        if self.alone:
            check_alone(problem.space)
            if LADDER.index(self.alone) > LADDER.index(problem.fidelity):
                raise ConfigError(f"alone: expected the search's fidelity, {problem.fidelity!r}, or a cheaper one")
            alone = (len(problem.space) + 1) * (self.alone == problem.fidelity)
            if alone >= trials:
                raise ConfigError(
                    f"search.trials: {trials}, too few: {alone} quantize one choice each"
                    " (search.strategies.predictor.alone)"
                )
            trials -= alone
        first = round(self.random * trials)
        if first < self.least and first < trials:
            raise ConfigError(
                f"search.trials: {first} of {problem.trials} are random (search.strategies.predictor.random),"
                f" and {self.folds} folds need at least {self.least}"
            )

    @property
    def least(self) -> int:
        """The number of complete trials that the folds need."""
        return max(_A_FOLD * self.folds, _LEAST)

    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `ConfigError`, as `check` does."""
        self.check(problem)
        return _Searcher(self, problem)


class _Searcher(Searcher):
    def __init__(self, options: Predictor, problem: Problem) -> None:
        self.options = options
        self.first_ones: Searcher = Random().searcher(problem)
        self.alone: Alone | None = None  # until its trials are told
        self.errors: Array | None = None
        counted = 0
        if options.alone:
            self.plain = problem.costs.finite().tables[problem.costs.error]
            self.alone = Alone(problem, options.alone, one_option_each(problem.space, self.plain))
            counted = len(self.alone.proposals()) if options.alone == problem.fidelity else 0
        self.problem = replace(problem, trials=problem.trials - counted)
        self.first = round(options.random * self.problem.trials)
        self.trials: list[Trial] = []
        self.told = 0
        self._learner: Learner | None = None

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the random recipes, as many more as failed too early, then the builds of one round after the other."""
        if self.alone:
            return self.alone.proposals()
        wanted = max(self.first - self.told, self._lacks())
        if wanted > 0:
            return self.first_ones.ask(min(most, wanted))
        return [Proposal(recipe) for recipe in self.learner.round(self.trials, min(most, self._share()))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the trials for the next round to learn from; those of single choices say what errors weigh."""
        if self.alone:
            self.errors, self.alone = self.alone.weighted(trials, self.plain, self.options.name), None
            self.first_ones = LeastErrors(self.problem, self.errors)
            return
        self.told += len(trials)
        self.trials += trials
        if self.told >= self.problem.trials and self._learner is not None:
            self._learner.finish()

    @property
    def learner(self) -> "Learner":
        """What learns; made when it is needed, since it imports torch."""
        if self._learner is None:
            from q2.search.predictor.learn import Learner

            self._learner = Learner(self.problem, self.options, self.errors)
        return self._learner

    def _lacks(self) -> int:
        """Return how many trials must yet go well until there are enough to learn from: some may have failed."""
        return self.options.least - len({trial.id for trial in self.trials if trial.state == "complete"})

    def _share(self) -> int:
        """Return how many trials the next round has: the rest, shared evenly, the last rounds have one less."""
        rest, rounds = self.problem.trials - self.first, self.options.rounds
        done, shares = self.told - self.first, [len(range(i, rest, rounds)) for i in range(rounds)]
        ends = [sum(shares[: i + 1]) for i in range(rounds)]
        return next((end - done for end in ends if end > done), rest - done)
