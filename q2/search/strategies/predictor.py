"""Train a predictor on random trials, then build recipes from it: Qua²SeDiMo (AAAI'25), with an exact solver."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from q2.errors import ConfigError
from q2.quant.sensitivity import signal_of
from q2.search.evaluation.costs import finite
from q2.search.metrics.base import LADDER, Array
from q2.search.strategies.alone import Alone, LeastErrors, check_alone, one_option_each
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.strategies.fisher import Fisher
from q2.search.strategies.random import Random
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

if TYPE_CHECKING:
    from q2.search.predictor.learn import Learner

__all__ = ["Predictor"]

_A_FOLD, _LEAST = 3, 8  # trials per fold and in all, as `q2.search.predictor.train.folds_of` requires


@dataclass(frozen=True)
class Predictor(Strategy):
    """Random recipes first, then rounds that train a predictor on all trials and build recipes from it.

    `random` is the share of random trials; the remaining trials are divided evenly between `rounds`. Recipes are built
    from `scores`: the predictor's ``labels`` (Qua²SeDiMo), its ``effects`` (partial dependence) or, with ``ridge``, an
    additive fit, linear or of noise. `loss`, `folds` and `epochs` configure the training of networks, `jobs` folds at a
    time on `device` (``auto``: CUDA if available); `attention` is the implementation of message passing.

    With `alone`, a fidelity, every choice is first quantized alone, as in `sensitivity`; at the search's own fidelity
    these trials count towards the budget. The measured sensitivities then weight the errors, and recipes of least
    weighted error, with randomly varied weights, replace the random recipes. With `gradients`, the noise that options
    add to the outputs is estimated from so many backward passes instead, as in `fisher`, without a trial.
    """

    name: ClassVar[str] = "predictor"
    random: float = 0.6
    """Share of the trials that are random (docs/predictor.md)."""
    rounds: int = 2
    """Rounds of training and building in the remaining trials."""
    scores: Literal["labels", "effects", "ridge"] = "ridge"
    """What recipes are built from: `ridge`, `labels` or `effects`."""
    loss: Literal["srcc", "ndcg", "hybrid"] = "hybrid"
    """Loss of the predictor's networks, if they are trained."""
    folds: int = 5
    """Folds of the networks' cross-validation."""
    epochs: int = 60
    """Maximum number of epochs."""
    jobs: int = 1
    """Folds that are trained at a time."""
    device: str = "auto"
    """PyTorch device that the predictor is trained on; `auto`: CUDA if available."""
    attention: Literal["auto", "fused", "pyg"] = "auto"
    """Implementation of message passing: `fused`, q2's kernel for CPUs, or `pyg`, PyTorch Geometric; `auto` chooses by
    the device."""
    alone: Literal["", "forward", "few-step"] = ""
    """Fidelity, `forward` or `few-step`, at which every choice is first quantized alone; empty: skip these trials."""
    gradients: int = 0
    """Backward passes that estimate the noise of every option before the first trial, as in `fisher`; 0: none."""

    def expressions(self) -> dict[str, str]:
        """Return the metric that single choices are measured by, if `alone` is set; what `fisher` needs."""
        found = {"gradients": signal_of("forward")} if self.gradients else {}
        return found | ({"alone": signal_of(self.alone)} if self.alone else {})

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelity of the trials of single choices, if `alone` is set; what `fisher` needs."""
        return [*([self.alone] if self.alone else []), *(Fisher().fidelities() if self.gradients else [])]

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for options out of range, and for too few trials for single choices or folds."""
        if not 0 < self.random <= 1:
            raise ConfigError(f"random: expected a share above 0 and up to 1, not {self.random:g}")
        for key, least in (("rounds", 1), ("folds", 2), ("epochs", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: expected {least} or more, not {getattr(self, key)}")
        if self.scores != "ridge":
            from q2.search.predictor.train import Training

            Training(device=self.device, attention=self.attention).place()
        if self.gradients < 0:
            raise ConfigError(f"gradients: expected 0 or more, not {self.gradients}")
        if self.gradients:
            Fisher(passes=self.gradients).check(problem)
        if self.gradients and self.alone:
            raise ConfigError("gradients: and 'alone' both estimate the noise of options; set one of them")
        trials = problem.trials
        if self.alone:
            check_alone(problem.space)
            if LADDER.index(self.alone) > LADDER.index(problem.fidelity):
                raise ConfigError(f"alone: expected the search's fidelity, {problem.fidelity!r}, or a cheaper one")
            alone = (len(problem.space) + 1) * (self.alone == problem.fidelity)
            if alone >= trials:
                raise ConfigError(
                    f"search.trials: {trials} are too few: {alone} trials quantize one choice each"
                    " (search.strategies.predictor.alone)"
                )
            trials -= alone
        first = round(self.random * trials)
        if first < self.least and first < trials:
            raise ConfigError(
                f"search.trials: {first} of {problem.trials} are random (search.strategies.predictor.random),"
                f" but {self.folds} folds need at least {self.least}"
            )

    @property
    def least(self) -> int:
        """The number of complete trials that the folds need."""
        return max(_A_FOLD * self.folds, _LEAST)

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher. Raises `ConfigError`, as `check` does, and what `Fisher.errors` raises."""
        self.check(problem)
        return _Searcher(self, problem)


class _Searcher(Searcher):
    def __init__(self, options: Predictor, problem: Problem) -> None:
        self.options = options
        self.first_ones: Searcher = Random().searcher(problem)
        self.alone: Alone | None = None  # None as soon as its trials are known
        self.errors: Array | None = None
        counted = 0
        if options.alone:
            self.plain = problem.costs.finite().tables[problem.costs.error]
            self.alone = Alone(problem, options.alone, one_option_each(problem.space, self.plain))
            counted = len(self.alone.proposals()) if options.alone == problem.fidelity else 0
        self.problem = replace(problem, trials=problem.trials - counted)
        if options.gradients:
            self.errors = finite(Fisher(passes=options.gradients).errors(problem))
            self.first_ones = LeastErrors(self.problem, self.errors)
        self.first = round(options.random * self.problem.trials)
        self.trials: list[Trial] = []
        self.told = 0
        self._learner: Learner | None = None

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return random recipes, with replacements for failed trials, then the recipes built in each round."""
        if self.alone:
            return self.alone.proposals()
        wanted = max(self.first - self.told, self._lacks())
        if wanted > 0:
            return self.first_ones.ask(min(most, wanted))
        return [Proposal(recipe) for recipe in self.learner.round(self.trials, min(most, self._share()))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Store the trials as training data; trials of single choices set the weights of errors instead."""
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
        """The learner, made on first use since it imports torch."""
        if self._learner is None:
            from q2.search.predictor.learn import Learner

            self._learner = Learner(self.problem, self.options, self.errors)
        return self._learner

    def _lacks(self) -> int:
        """Return how many more complete trials are needed before training; some may have failed."""
        return self.options.least - len({trial.id for trial in self.trials if trial.state == "complete"})

    def _share(self) -> int:
        """Return how many trials the current round still has. Rounds are equal, but later ones may have one less."""
        rest, rounds = self.problem.trials - self.first, self.options.rounds
        done, shares = self.told - self.first, [len(range(i, rest, rounds)) for i in range(rounds)]
        ends = [sum(shares[: i + 1]) for i in range(rounds)]
        return next((end - done for end in ends if end > done), rest - done)
