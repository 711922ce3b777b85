"""Tables of a store's trials for people: all of them in a row each, or one in full."""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from q2.errors import TargetError, TrialError, did_you_mean
from q2.search.kinds import METRICS
from q2.search.objective.target import Target
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial

__all__ = ["Listing"]

_WORTH, _FIRST = "worth", "avg_bits"
_REASON = 60


@dataclass(frozen=True)
class Listing:
    """The trials of a store, in the order of their numbers, with the run's target if its settings lie beside."""

    trials: tuple[Trial, ...]
    target: Target | None
    place: Path

    @classmethod
    def of(cls, store: TrialStore) -> "Listing":
        """List a store; the target is that of the ``effective.toml`` beside it."""
        trials = tuple(store)
        return cls(trials, _target(store.path.absolute().parent / "effective.toml", trials), store.path)

    @property
    def metrics(self) -> list[str]:
        """The metrics that some trial has, avg_bits first."""
        names = dict.fromkeys(name for trial in self.trials for name in trial.metrics)
        return sorted(names, key=lambda name: (name != _FIRST, name))

    @property
    def headers(self) -> list[str]:
        """The titles of the columns of `rows`."""
        worth = [_WORTH] if self.target else []
        return ["number", "state", "strategy", "fidelity", *worth, *self.metrics]

    def rows(self, sort: str = "") -> list[list[str]]:
        """Return a row for every trial; sorted by a metric, lowest first, or highest with ``-`` before its name.

        ``worth`` sorts as its worth does, highest first. Trials without it come last. Raises `TrialError`.
        """
        shown = list(self.trials)
        if sort and shown:
            sign = -1 if sort.startswith("-") or sort == _WORTH else 1
            name = sort.removeprefix("-")
            known = [*([_WORTH] if self.target else []), *self.metrics]
            if name not in known:
                there = f"there are: {', '.join(known)}" if known else "all trials have failed"
                raise TrialError(f"--sort {sort}: no trial has it{did_you_mean(name, known)} ({there})")
            shown.sort(key=lambda trial: sign * value if (value := self._value(trial, name)) is not None else math.inf)
        return [self._row(trial) for trial in shown]

    def find(self, name: str) -> Trial:
        """Return the trial of a number, or of the start of an id. Raises `TrialError`: none, or several."""
        found = [trial for trial in self.trials if name.isdecimal() and trial.number == int(name)]
        found = found or [trial for trial in self.trials if name and trial.id.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise TrialError(f"{self.place}: trial {name!r} may be any of {', '.join(trial.id for trial in found[:5])}")
        numbers = [str(trial.number) for trial in self.trials if trial.number is not None]
        near = did_you_mean(name, [*numbers, *(trial.id for trial in self.trials)])
        raise TrialError(f"{self.place}: no trial {name!r}{near} ({len(self.trials)} trials)")

    def details(self, trial: Trial) -> tuple[list[list[str]], list[list[str]], list[list[str]]]:
        """Return what there is to say about a trial: facts, metrics with their bounds, and the recipe, as rows."""
        facts = {
            "id": trial.id,
            "number": "" if trial.number is None else str(trial.number),
            "state": trial.state,
            "error": trial.error,
            "strategy": trial.strategy,
            "fidelity": trial.fidelity,
            "seed": str(trial.seed),
            "seconds": f"{trial.seconds:g}",
        }
        worth = self._value(trial, _WORTH)
        if self.target is not None and worth is not None:
            facts |= {"target": str(self.target), "worth": f"{worth:.6g}"}
        bounds = {name: [f"{limit:.6g}" for limit in limits] for name, limits in trial.intervals.items()}
        metrics = [
            [name, f"{trial.metrics[name]:.6g}", *bounds.get(name, ["", ""])]
            for name in self.metrics
            if name in trial.metrics
        ]
        return [[k, v] for k, v in facts.items() if v], metrics, [list(item) for item in trial.recipe.items()]

    def _row(self, trial: Trial) -> list[str]:
        number = trial.id if trial.number is None else str(trial.number)
        state = f"failed: {trial.error}"[:_REASON] if trial.state == "failed" else trial.state
        worth = self._value(trial, _WORTH)
        value = [] if self.target is None else ["" if worth is None else f"{worth:.6g}"]
        metrics = [trial.shown(name) if name in trial.metrics else "" for name in self.metrics]
        return [number, state, trial.strategy, trial.fidelity, *value, *metrics]

    def _value(self, trial: Trial, name: str) -> float | None:
        if name != _WORTH:
            return trial.metrics.get(name)
        return self.target.finite(trial.metrics) if self.target else None


def _target(path: Path, trials: Sequence[Trial]) -> Target | None:
    """Return the target of the run whose settings these are; None without them."""
    from q2.plugins import Plugins

    try:
        text = tomllib.loads(path.read_text(encoding="utf-8"))["search"]["target"]
        names = {name for trial in trials for name in trial.metrics}
        return Target.parse(text, [*names, *Plugins(entry_points=False).of(METRICS)])
    except (OSError, ValueError, KeyError, TypeError, TargetError):
        return None
