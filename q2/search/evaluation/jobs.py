"""Jobs: what an engine is given to measure, and their results. Imports nothing heavy, so that engines start fast."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from q2.search.trials.trial import State, Trial
from q2.settings import Fidelity

__all__ = ["Evaluated", "Job"]


@dataclass(frozen=True)
class Job:
    """A recipe to be measured, as the search's trial `number`."""

    recipe: Mapping[str, str]
    fidelity: Fidelity
    seed: int = 0
    number: int | None = None
    strategy: str = ""

    def trial(self, state: State = "complete", error: str = "") -> Trial:
        """Return the trial without anything measured; its id is that of the result."""
        return Trial(
            self.recipe,
            fidelity=self.fidelity,
            seed=self.seed,
            number=self.number,
            strategy=self.strategy,
            state=state,
            error=error,
        )

    def failed(self, reason: str) -> "Evaluated":
        """Return the trial that failed for a reason."""
        return Evaluated(self.trial("failed", reason))


@dataclass(frozen=True)
class Evaluated:
    """A trial, and the seconds that went into its parts: ``switch``, ``sample``, ``score``.

    `not_finite` says that it failed because the recipe gives NaN or infinity: no fault of the machine.
    """

    trial: Trial
    spent: Mapping[str, float] = field(default_factory=dict)
    not_finite: bool = False
