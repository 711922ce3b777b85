"""What a strategy is: its options, and a searcher that is asked for recipes and told the trials."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from q2.config import Key, Table, validate
from q2.deprecation import deprecated
from q2.passes import Step
from q2.progress import Progress, silent
from q2.search.evaluation.costs import Costs
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.subject import Subject
from q2.search.trials.trial import Trial
from q2.settings import BuildSettings, Fidelity

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["Estimator", "GradientErrors", "Objective", "Problem", "Proposal", "Searcher", "Strategy"]


Estimator = Literal["full", "diagonal"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """A metric to be made large or small, in units of `scale`."""

    metric: str
    direction: Literal["maximize", "minimize"]
    scale: float = 1.0


class GradientErrors(Protocol):
    """Works out from gradients what every option adds to the outputs' noise; see `q2.search.evaluation.gradients`."""

    def __call__(self, passes: int, estimate: "Estimator", memory: float) -> Array:
        """Return them (choices, options of the whole space), relative to the signal, from so many backward passes."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What a search looks for: everything that a strategy may know.

    `target` is to be made large, in `trials` trials, where every one of `constraints` holds; `objectives` are for
    strategies that weigh several metrics. `graph` is the denoiser's (on meta), `folder` the run's, for what a strategy
    keeps. `show` and `progress` tell people what it does. A searcher takes all randomness from `seed`. `measured` are
    the metrics of a trial at every fidelity, `known` says whether a recipe has been measured in this run already, and
    `identity` is the same for searches whose trials can be compared; `subject` is what recipes are for.
    `gradient_errors` works out what options do to the outputs, where the denoiser is loaded.
    """

    space: Space
    costs: Costs
    target: Target
    graph: "Graph"
    trials: int
    seed: int = 0
    fidelity: Fidelity = "full"
    constraints: tuple[Constraint, ...] = ()
    objectives: tuple[Objective, ...] = ()
    build: BuildSettings = field(default_factory=BuildSettings)
    folder: Path = Path()
    progress: Progress = silent
    show: Callable[[Step], None] = lambda step: None
    measured: Mapping[Fidelity, Collection[str]] = field(default_factory=dict)
    known: Callable[["Proposal"], bool] = lambda proposal: False
    identity: str = ""
    subject: Subject = field(default_factory=Subject)
    gradient_errors: "GradientErrors | None" = None

    def metrics(self) -> list[str]:
        """Return the names of all metrics that some trial of the search has."""
        return list(dict.fromkeys(name for names in self.measured.values() for name in names))

    def values(self, trials: Sequence[Trial]) -> list[float]:
        """Return the target's values of complete trials. Raises `TargetError`."""
        values = self.target.values([trial.metrics for trial in trials], [trial.label for trial in trials])
        return [float(value) for value in values]

    def worth(self, trials: Sequence[Trial]) -> list[float]:
        """Return what `values` does: its old name."""
        deprecated("Problem.worth", removed="0.3.0", instead="call it 'values'")
        return self.values(trials)


@dataclass(frozen=True)
class Proposal:
    """A recipe to be tried: weight layer to option, as text; at the search's fidelity unless it names another."""

    recipe: Mapping[str, str]
    fidelity: Fidelity | None = None


class Searcher(ABC):
    """One search by a strategy. What it asks for follows from the problem and what it was told, and from nothing else.

    That is what lets a search resume: it is asked again from the start, and told the trials that are there already.
    """

    @abstractmethod
    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes, at most `most` of them at the search's own fidelity; none at all ends the search.

        Cheaper trials than those are no part of the budget, so that a searcher has to bound them itself.
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Take in the trials of the last `ask`, in its order. A failed one has ``state == "failed"``."""

    def close(self) -> None:
        """Let go of what it holds: called once, however the search ends."""


@dataclass(frozen=True)
class Strategy(ABC):
    """A frozen dataclass whose fields are the strategy's options: keys of ``[search.strategies.<name>]``."""

    name: ClassVar[str]
    keeps_units: ClassVar[bool] = False
    """Whether it proposes only variants that the units of a reduced space have (`Space.groups`)."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @classmethod
    def from_table(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Build the strategy from its TOML table. Raises `ConfigError`, naming the key."""
        return validate(cls, table, where)

    def to_table(self) -> Table:
        """Return every option with its value, as a TOML table without empty values."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {key: value for key, value in found.items() if value is not None}

    def expressions(self) -> Mapping[str, str]:
        """Return expressions like a target, by option: what is in them is measured too."""
        return {}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelities that it may name in its proposals."""
        return ()

    def check(self, problem: Problem) -> None:
        """Raise `Q2Error` for options that do not fit the problem, before weights are loaded.

        What follows from weights is not there yet: the graph is on meta, and no option has an error.
        """

    @abstractmethod
    def searcher(self, problem: Problem) -> Searcher:
        """Start a search. Raises `Q2Error` for a problem that it cannot search."""
