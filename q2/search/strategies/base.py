"""The interface of strategies: their options, and a searcher with ask and tell."""

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
    """A metric to maximize or minimize, in units of `scale`."""

    metric: str
    direction: Literal["maximize", "minimize"]
    scale: float = 1.0


class GradientErrors(Protocol):
    """Estimates from gradients the noise that options add to the outputs; see `q2.search.evaluation.gradients`."""

    def __call__(self, passes: int, estimate: "Estimator", memory: float) -> Array:
        """Return the noise relative to the signal (choices, options of the whole space), from `passes` backward passes.

        `memory` limits the stored gradients, in GiB.
        """


@dataclass(frozen=True, eq=False)
class Problem:
    """The problem that a search solves: everything that a strategy may know.

    `target` is maximized in `trials` trials, subject to `constraints`; `objectives` are for strategies that optimize
    several metrics. `graph` is the denoiser's (on meta); in `folder`, the run's folder, a strategy may keep files.
    `show` and `progress` report to the user. A searcher takes all its randomness from `seed`. `measured` names the
    metrics of a trial at every fidelity, and `known` returns whether a proposal has been evaluated in this run already.
    `identity` is equal for searches whose trials can be compared; `subject` is the denoiser that recipes are for.
    `gradient_errors` estimates the noise of options from gradients; it is None unless the denoiser is loaded.
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
        """Return the names of the metrics measured at any of the search's fidelities."""
        return list(dict.fromkeys(name for names in self.measured.values() for name in names))

    def values(self, trials: Sequence[Trial]) -> list[float]:
        """Return the target's value of each complete trial. Raises `TargetError` for one without a finite value."""
        values = self.target.values([trial.metrics for trial in trials], [trial.label for trial in trials])
        return [float(value) for value in values]

    def worth(self, trials: Sequence[Trial]) -> list[float]:
        """Return `values`: the deprecated name."""
        deprecated("Problem.worth", removed="0.3.0", instead="call it 'values'")
        return self.values(trials)


@dataclass(frozen=True)
class Proposal:
    """A recipe to evaluate, weight layer to option as text; at the search's fidelity unless `fidelity` is given."""

    recipe: Mapping[str, str]
    fidelity: Fidelity | None = None


class Searcher(ABC):
    """One run of a strategy. Its proposals depend on nothing but the problem and the trials it was told.

    So a search can resume: a new searcher is asked from the start and told the stored trials.
    """

    @abstractmethod
    def ask(self, most: int) -> Sequence[Proposal]:
        """Return the next recipes, at most `most` of them at the search's own fidelity; an empty list ends the search.

        Trials at cheaper fidelities do not count towards the budget, so a searcher must limit their number itself.
        """

    @abstractmethod
    def tell(self, trials: Sequence[Trial]) -> None:
        """Receive the trials of the last `ask`, in its order. A failed trial has ``state == "failed"``."""

    def close(self) -> None:
        """Release resources. Called once, however the search ends."""


@dataclass(frozen=True)
class Strategy(ABC):
    """A strategy: a frozen dataclass whose fields are its options, the keys of ``[search.strategies.<name>]``."""

    name: ClassVar[str]
    keeps_units: ClassVar[bool] = False
    """Whether proposals use only the variants listed for the units of a reduced space (`Space.groups`)."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @classmethod
    def from_table(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Build the strategy from its TOML table. Raises `ConfigError`, naming the key."""
        return validate(cls, table, where)

    def to_table(self) -> Table:
        """Return every option with its value, as a TOML table without the options that are None."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {key: value for key, value in found.items() if value is not None}

    def expressions(self) -> Mapping[str, str]:
        """Return the options that are expressions of metrics, by name; these metrics are measured too."""
        return {}

    def fidelities(self) -> Sequence[Fidelity]:
        """Return the fidelities that its proposals may name."""
        return ()

    def check(self, problem: Problem) -> None:
        """Raise `Q2Error` for options that do not fit the problem, before weights are loaded.

        The graph is on meta and the errors of options are not known yet.
        """

    @abstractmethod
    def searcher(self, problem: Problem) -> Searcher:
        """Return a new searcher. Raises `Q2Error` for a problem that the strategy cannot search."""
