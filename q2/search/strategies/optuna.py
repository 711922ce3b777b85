"""Optuna's samplers (Akiba et al., KDD'19), alone or as several processes on one study; pruning at cheap fidelities."""

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import optuna
from optuna.samplers import BaseSampler, BruteForceSampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import Field

from q2.errors import ConfigError, TargetError
from q2.search.metrics.base import LADDER
from q2.search.objective.target import Target
from q2.search.strategies.base import Problem, Proposal, Searcher, Strategy
from q2.search.strategies.parameters import Parameters, key_of
from q2.search.strategies.study import Claim, Direction, SharedStudy
from q2.search.trials.trial import Trial
from q2.settings import Fidelity

__all__ = ["Optuna"]

_AGAIN = 10  # repeated recipes in a row, before one is drawn at random
_BROKEN = 2000  # recipes in a row that violate a constraint, before the search fails
_AHEAD = 8
_ALL = 64

Sampler = Literal["tpe", "random", "nsgaii", "nsgaiii", "qmc", "gp", "brute-force", "cmaes"]
_GENETIC = ("nsgaii", "nsgaiii")
_PLAIN = ("random", "qmc", "brute-force")
_CONSTRAINED = ("tpe", "gp", *_GENETIC)
_SINGLE = ("cmaes",)


@dataclass(frozen=True)
class Optuna(Strategy):
    """Optuna's samplers, in one process or in several that share a study.

    Tables `[search.metrics.<name>]` define objectives that are optimized instead of the target.
    """

    name: ClassVar[str] = "optuna"
    keeps_units: ClassVar[bool] = True
    sampler: Sampler = "tpe"
    """Optuna's sampler (docs/optuna.md)."""
    batch: Annotated[int, Field(ge=0)] = 0
    """Recipes per batch; 0: the `population` for genetic samplers, 64 for samplers that do not learn, 8 for others."""
    population: Annotated[int, Field(ge=2)] = 20
    """Population of `nsgaii` and `nsgaiii`."""
    combine: Literal["sum", "pareto"] = "sum"
    """How the objectives of `[search.metrics]` are combined: their scaled `sum`, or `pareto`."""
    storage: str = ""
    """URL of a database, or a journal file, that processes share; empty: in memory."""
    study: str = "q2"
    """Name of the study in the storage."""
    grace: Annotated[float, Field(gt=0)] = 60.0
    """Seconds without a heartbeat after which another process is considered dead."""
    rungs: tuple[Fidelity, ...] = ()
    """Cheaper fidelities at which every batch is evaluated and pruned first, the cheapest first."""
    rank_by: str = ""
    """Expression of metrics that ranks recipes at the rungs; empty: the target."""
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the recipes kept at each rung."""

    def expressions(self) -> Mapping[str, str]:
        """Return `rank_by`, if set: its metrics must be measured."""
        return {"rank_by": self.rank_by} if self.rank_by else {}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the rungs."""
        return self.rungs

    def check(self, problem: Problem) -> None:
        """Raise `ConfigError` for options that cannot be combined, and for a missing package."""
        several = self.combine == "pareto" and len(problem.objectives) > 1
        if self.combine == "pareto" and not several:
            raise ConfigError("combine: 'pareto' needs two or more objectives, tables [search.metrics.<name>]")
        if several and self.sampler in _SINGLE:
            raise ConfigError(f"sampler: {self.sampler!r} optimizes a single objective, not combine = 'pareto'")
        if several and self.rungs:
            raise ConfigError("rungs: ranking a batch needs a single objective, not combine = 'pareto'")
        if self.sampler == "cmaes" and find_spec("cmaes") is None:
            raise ConfigError("sampler: 'cmaes' needs the package cmaes: pip install cmaes")
        if self.sampler == "cmaes" and self.storage:
            raise ConfigError("storage: Optuna's 'cmaes' stores pickles, which q2 does not load")
        places = [LADDER.index(rung) for rung in self.rungs]
        if places != sorted(set(places)) or any(place >= LADDER.index(problem.fidelity) for place in places):
            raise ConfigError(f"rungs: expected fidelities cheaper than {problem.fidelity!r}, the cheapest first")

    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher. Raises `ConfigError`, as `check` does, and for a storage that cannot be used."""
        self.check(problem)
        return _Optuna(self, problem)

    def ahead(self) -> int:
        """Return the number of recipes in a batch, which are all proposed before the first result is known."""
        if self.batch:
            return self.batch
        return self.population if self.sampler in _GENETIC else _ALL if self.sampler in _PLAIN else _AHEAD


@dataclass
class _Asked:
    """A recipe being evaluated: its trial in the in-memory study and its claim in the shared study, if there is one."""

    trial: optuna.Trial
    recipe: Mapping[str, str]
    claim: Claim | None = None
    rung: dict[int, float] = field(default_factory=dict)


class _Optuna(Searcher):
    """Samples from a study in memory. With a storage, this study is a copy that is kept in sync with the shared study.

    So sampling takes no round trip for each layer, and a recipe is added to the shared study in a single step.
    """

    def __init__(self, options: Optuna, problem: Problem) -> None:
        self.options, self.problem = options, problem
        self.parameters = Parameters(problem.space, numeric=options.sampler == "cmaes")
        self.distributions = self.parameters.distributions
        self.several = options.combine == "pareto"
        self.rankings = _rankings(options, problem)
        self.tried: set[tuple[str, ...]] = set()
        self.broken: set[tuple[str, ...]] = set()
        self.batch: list[_Asked] = []
        self.stage = self.most = self.drawn = 0
        self.known: list[Proposal] = []
        self.handed: set[tuple[str, ...]] = set()
        self.copies: dict[int, int] = {}
        directions: list[Direction] = [o.direction for o in problem.objectives] if self.several else ["maximize"]
        shared = options.study, options.storage, options.grace
        self.shared = SharedStudy(*shared, problem, directions) if options.storage else None
        seed = [problem.seed, *(self.shared.place if self.shared else ())]
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with _quiet():
            self.study = optuna.create_study(directions=directions, sampler=_sampler(options, seed))

    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes, or the recipes of the last batch that are promoted to the next fidelity."""
        if not self.batch:
            self.stage, self.most = 0, most
            wanted = math.ceil(most / self.options.keep ** len(self.options.rungs))
            with _quiet():
                self._fill(min(self.options.ahead(), wanted))
        if self.known:
            return self.known
        fidelity = self.options.rungs[self.stage] if self.stage < len(self.options.rungs) else None
        return [Proposal(asked.recipe, fidelity) for asked in self.batch]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Report the results to Optuna; at a rung, drop the recipes that are not promoted."""
        if self.known:
            self.known = []
            return
        with _quiet():
            if self.stage < len(self.options.rungs):
                self.batch = self._promoted(trials)
                self.stage += 1
                return
            for asked, trial in zip(self.batch, trials, strict=True):
                failed = trial.state != "complete"
                self._end(asked, None if failed else self._values(trial), trial.error or "failed" if failed else "")
        self.batch = []

    def close(self) -> None:
        """Leave the shared study; other processes may take over the recipes that are not finished."""
        if self.shared:
            self.shared.close()

    def _fill(self, count: int) -> None:
        """Fill `batch` with new recipes, or `known` with shared recipes that this run has evaluated already."""
        if self.shared is None:
            self.batch = [asked for asked in (self._next() for _ in range(count)) if asked]
            return
        while True:
            self._update()
            if self.known:
                self.known = self.known[: self.most]
                self.handed |= {self.parameters.key(proposal.recipe) for proposal in self.known}
                return
            for params in self.shared.abandoned():
                self.batch += filter(None, [self._claimed(self._ask(params))])
                if len(self.batch) == count:
                    break
            while len(self.batch) < count and self.shared.room() > 0 and (asked := self._next()):
                self.batch.append(asked)
            if self.batch or not self.shared.busy() or not self.shared.wait():
                return

    def _next(self) -> _Asked | None:
        """Return a new recipe that satisfies the constraints; None if there are no more."""
        again = broken = 0
        while len(self.tried) + len(self.broken) < self.problem.space.size:
            trial = self._ask(None if again < _AGAIN else self._untried())
            key = key_of(trial.params)
            if key in self.tried or key in self.broken:
                self.study.tell(trial, state=TrialState.FAIL)
                again += 1
            elif any(self._violations(trial.params).values()):
                self._turn_down(trial)
                broken += 1
            elif asked := self._claimed(trial):
                return asked
            elif self.shared and self.shared.room() <= 0:
                return None
            if broken == _BROKEN:
                bounds = " and ".join(map(str, self.problem.constraints))
                learn = "" if self.options.sampler in _CONSTRAINED else f"; {', '.join(_CONSTRAINED)} learn constraints"
                found = f"none of {broken} recipes drawn by {self.options.sampler!r} satisfies {bounds}"
                raise ConfigError(f"search.constraints: {found}{learn}")
        return None

    def _ask(self, params: Mapping[str, Any] | None) -> optuna.Trial:
        """Ask Optuna for a trial, or enqueue given parameters; record how far each constraint is violated."""
        if params:
            self.study.enqueue_trial(dict(params))
        trial = self.study.ask(self.distributions)
        if self.options.sampler in _CONSTRAINED:
            for bound, amount in self._violations(trial.params, signed=True).items():
                trial.set_constraint(bound, amount)
        return trial

    def _claimed(self, trial: optuna.Trial) -> _Asked | None:
        """Return the recipe to evaluate, or None if another process has claimed it."""
        claim = None
        self.tried.add(key_of(trial.params))
        if self.shared:
            frozen = self.study.get_trials(deepcopy=False)[trial.number]
            claim = self.shared.claim(frozen)
            if claim is None:
                self.study.tell(trial, state=TrialState.FAIL)
                return None
            self.copies[claim.number] = trial.number
        return _Asked(trial, self.parameters.recipe(trial.params), claim)

    def _turn_down(self, trial: optuna.Trial) -> None:
        """Report to Optuna a recipe that violates a constraint; it is not evaluated and is no trial of the search."""
        self.broken.add(key_of(trial.params))
        if self.options.sampler == "tpe":
            self.study.tell(trial, state=TrialState.PRUNED)
        elif self.options.sampler in _CONSTRAINED:  # these learn from complete trials only, by the violation
            worst = [-math.inf if each.name == "MAXIMIZE" else math.inf for each in self.study.directions]
            self.study.tell(trial, worst)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def _promoted(self, trials: Sequence[Trial]) -> list[_Asked]:
        """Return the recipes that are promoted from a rung, the best first; prune the others."""
        ranked: list[tuple[float, int]] = []
        ranking = self.rankings[self.stage]
        for place, (asked, trial) in enumerate(zip(self.batch, trials, strict=True)):
            value = ranking.finite(trial.metrics) if trial.state == "complete" else None
            if value is not None:
                asked.trial.report(value, self.stage)
                asked.rung[self.stage] = value
                ranked.append((-value, place))
            else:
                self._end(asked, None, trial.error or f"no finite value of {ranking}")
        ranked.sort()
        count = math.ceil(self.options.keep * len(ranked))
        if self.stage + 1 == len(self.options.rungs):
            count = min(count, self.most)
        for _, place in ranked[count:]:
            self._end(self.batch[place], None)
        return [self.batch[place] for _, place in ranked[:count]]

    def _end(self, asked: _Asked, values: Sequence[float] | None, error: str = "") -> None:
        """Report the result of a recipe: values, an error, or neither if it was pruned."""
        state = TrialState.COMPLETE if values else TrialState.FAIL if error else TrialState.PRUNED
        self.study.tell(asked.trial, values, state)
        if self.shared and asked.claim:
            self.shared.finish(asked.claim, state, values, error, asked.rung)

    def _values(self, trial: Trial) -> list[float]:
        """Return the objectives of a complete trial. Raises `TargetError` for a missing metric."""
        if not self.problem.objectives:
            return self.problem.values([trial])
        for each in self.problem.objectives:
            if each.metric not in trial.metrics:
                raise TargetError(f"{trial.label}: metric {each.metric!r} of the objectives is missing")
        if self.several:
            return [trial.metrics[each.metric] for each in self.problem.objectives]
        signs = {"maximize": 1, "minimize": -1}
        return [sum(signs[o.direction] * trial.metrics[o.metric] / o.scale for o in self.problem.objectives)]

    def _violations(self, params: Mapping[str, Any], *, signed: bool = False) -> dict[str, float]:
        """Return by how much each constraint is violated: 0 if it holds or, with `signed`, minus its margin."""
        indices = self.problem.space.encode(self.parameters.recipe(params))
        found = {}
        for bound in self.problem.constraints:
            value = float(self.problem.costs.value(bound.metric, indices))
            over = value - bound.bound if bound.sense == "<=" else bound.bound - value
            found[str(bound)] = (min(over, 0.0) if signed else 0.0) if bound.admits(value) else over
        return found

    def _untried(self) -> dict[str, Any]:
        """Return the parameters of a recipe that was not proposed before."""
        rng = np.random.default_rng([self.problem.seed, self.drawn])
        self.drawn += 1
        return self.parameters.untried(self.tried | self.broken, rng)

    def _update(self) -> None:
        """Synchronize the copy with the shared study, and collect the shared trials that this run knows already."""
        assert self.shared
        own = self.study.get_trials(deepcopy=False)
        self.tried = set()
        for trial in self.shared.trials():
            copy = self.copies.get(trial.number)
            if trial.state.is_finished() and copy is not None and own[copy].state == TrialState.RUNNING:
                self.study.tell(copy, trial.values if trial.state == TrialState.COMPLETE else None, trial.state)
            if not self.shared.counts(trial):
                continue
            self.tried.add(key_of(trial.params))
            if copy is None:
                self.study.add_trial(self._copy(trial))
                self.copies[trial.number] = len(self.study.get_trials(deepcopy=False)) - 1
            proposal = Proposal(self.parameters.recipe(trial.params))
            done = trial.state == TrialState.COMPLETE and key_of(trial.params) not in self.handed
            if done and self.shared.foreign(trial) and self.problem.known(proposal):
                self.known.append(proposal)

    def _copy(self, trial: FrozenTrial) -> FrozenTrial:
        constrained = self.options.sampler in _CONSTRAINED
        return create_trial(
            state=trial.state,
            values=trial.values if trial.state == TrialState.COMPLETE else None,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs={key: value for key, value in trial.system_attrs.items() if key.endswith(":generation")},
            intermediate_values=trial.intermediate_values,
            constraints=self._violations(trial.params, signed=True) if constrained else None,
        )


class _BruteForce(BruteForceSampler):
    """Brute force for ask and tell: Optuna's own stops the loop of `Study.optimize`, which q2 does not use."""

    def after_trial(self, *args: object) -> None:
        """Do nothing: the search ends when every recipe has been proposed."""


def _sampler(options: Optuna, seed: Collection[int]) -> BaseSampler:
    number = int(np.random.SeedSequence(list(seed)).generate_state(1)[0])
    size = options.population
    samplers: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=number),
        "random": lambda: optuna.samplers.RandomSampler(seed=number),
        "nsgaii": lambda: optuna.samplers.NSGAIISampler(seed=number, population_size=size),
        "nsgaiii": lambda: optuna.samplers.NSGAIIISampler(seed=number, population_size=size),
        "qmc": lambda: optuna.samplers.QMCSampler(seed=number, scramble=True),
        "gp": lambda: optuna.samplers.GPSampler(seed=number),
        "brute-force": lambda: _BruteForce(seed=number),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=number),
    }
    return samplers[options.sampler]()


def _rankings(options: Optuna, problem: Problem) -> list[Target]:
    """Return the expression that ranks at each rung: `rank_by`, or the target if that is empty.

    Raises `ConfigError` for a rung that does not measure one of its metrics.
    """
    found = []
    for rung in options.rungs:
        here = problem.measured.get(rung, ())
        target = Target.parse(options.rank_by, problem.metrics()) if options.rank_by else problem.target
        lacks = [name for name in target.metrics if name not in here]
        if lacks:
            hint = f"use an expression of its metrics: {', '.join(here)}"
            raise ConfigError(f"rank_by: {rung!r} does not measure {lacks[0]!r}; {hint}")
        found.append(target)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide Optuna's warnings of experimental features and of clipped values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
