"""Tables of a store's trials for people: all of them in a row each, or one in full."""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from q2.errors import TargetError, TrialError, did_you_mean
from q2.files import parse_toml
from q2.search.kinds import METRICS
from q2.search.objective.target import Target
from q2.search.trials.encoding import key
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from q2.settings import Table

__all__ = ["Listing"]

_TARGET, _FIRST = "target", "avg_bits"
_REASON = 60
_DIGITS, _SIGN = 6, "#"


@dataclass(frozen=True)
class Listing:
    """The trials of a store, in the order of their numbers, with the run's target if its settings lie beside."""

    trials: tuple[Trial, ...]
    target: Target | None
    place: Path
    fidelity: str = ""
    pruning: frozenset[str] = frozenset()
    """The strategies, by title, that drop trials at cheaper fidelities."""

    @classmethod
    def of(cls, store: TrialStore) -> "Listing":
        """List a store; target, fidelity and strategies are those of the ``effective.toml`` beside it."""
        trials = tuple(store)
        search = _search(store.path.absolute().parent / "effective.toml")
        strategies = _inner(search, "strategies")
        pruning = frozenset(title for title in strategies if _inner(strategies, title).get("rungs"))
        fidelity = str(_inner(search, "evaluation").get("fidelity", ""))
        return cls(trials, _target(search, trials), store.path, fidelity, pruning)

    @cached_property
    def metrics(self) -> list[str]:
        """The metrics that some trial has, avg_bits first."""
        names = dict.fromkeys(name for trial in self.trials for name in trial.metrics)
        return sorted(names, key=lambda name: (name != _FIRST, name))

    @property
    def headers(self) -> list[str]:
        """The titles of the columns of `rows`."""
        target = [_TARGET] if self.target else []
        return ["trial", "state", "strategy", "fidelity", *target, *self.metrics]

    def rows(self, sort: str = "") -> list[list[str]]:
        """Return a row for every trial; sorted by a metric, lowest first, or highest with ``-`` before its name.

        ``target`` sorts by the run's target, highest first. Trials without it come last. Raises `TrialError`.
        """
        shown = list(self.trials)
        if sort and shown:
            sign = -1 if sort.startswith("-") or sort == _TARGET else 1
            name = sort.removeprefix("-")
            known = [*([_TARGET] if self.target else []), *self.metrics]
            if name not in known:
                there = f"there are: {', '.join(known)}" if known else "all trials have failed"
                raise TrialError(f"--sort {sort}: no trial has it{did_you_mean(name, known)} ({there})")
            shown.sort(key=lambda trial: sign * value if (value := self._value(trial, name)) is not None else math.inf)
        return [self._row(trial) for trial in shown]

    def name(self, trial: Trial) -> str:
        """Return what `find` knows a trial by: its number, or the start of its id where it has none of its own."""
        if trial.number is not None and self._numbers[trial.number] == 1:
            return str(trial.number)
        place = bisect_left(self._ids, trial.id)
        beside = [*self._ids[max(place - 1, 0) : place], *self._ids[place + 1 : place + 2]]
        digits = _DIGITS
        while digits < len(trial.id) and any(other.startswith(trial.id[:digits]) for other in beside):
            digits += 1
        return f"{_SIGN}{trial.id[:digits]}"

    def state(self, trial: Trial) -> str:
        """Return ``complete``, ``failed``, or ``pruned`` for one that a strategy with rungs did not go on with."""
        if trial.state != "complete" or trial.strategy not in self.pruning:
            return trial.state
        went_on = trial.fidelity == self.fidelity or key(trial.recipe) in self._dearest
        return "complete" if went_on else "pruned"

    @cached_property
    def _ids(self) -> list[str]:
        return sorted(trial.id for trial in self.trials)

    @cached_property
    def _numbers(self) -> Counter[int | None]:
        return Counter(trial.number for trial in self.trials)

    @cached_property
    def _dearest(self) -> frozenset[Hashable]:
        """The recipes that were measured at the run's own fidelity."""
        return frozenset(key(trial.recipe) for trial in self.trials if trial.fidelity == self.fidelity)

    def find(self, name: str) -> Trial:
        """Return the trial of a number, or of the start of an id. Raises `TrialError`: none, or several."""
        start = name.removeprefix(_SIGN)
        found = [trial for trial in self.trials if name.isdecimal() and trial.number == int(name)]
        found = found or [trial for trial in self.trials if start and trial.id.startswith(start)]
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
        value = self._value(trial, _TARGET)
        if self.target is not None and value is not None:
            facts |= {"target": f"{value:.6g} = {self.target}"}
        bounds = {name: [f"{limit:.6g}" for limit in limits] for name, limits in trial.intervals.items()}
        metrics = [
            [name, f"{trial.metrics[name]:.6g}", *bounds.get(name, ["", ""])]
            for name in self.metrics
            if name in trial.metrics
        ]
        return [[k, v] for k, v in facts.items() if v], metrics, [list(item) for item in trial.recipe.items()]

    def _row(self, trial: Trial) -> list[str]:
        number = self.name(trial)
        state = f"failed: {trial.error}"[:_REASON] if trial.state == "failed" else self.state(trial)
        value = self._value(trial, _TARGET)
        target = [] if self.target is None else ["" if value is None else f"{value:.6g}"]
        metrics = [trial.shown(name) if name in trial.metrics else "" for name in self.metrics]
        return [number, state, trial.strategy, trial.fidelity, *target, *metrics]

    def _value(self, trial: Trial, name: str) -> float | None:
        if name != _TARGET:
            return trial.metrics.get(name)
        return self.target.finite(trial.metrics) if self.target else None


def _search(path: Path) -> Table:
    """Return the table ``search`` of the run whose settings these are; empty without them."""
    try:
        table = parse_toml(path.read_text(encoding="utf-8"))["search"]
        return dict(table)
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _inner(table: Table, name: str) -> Table:
    """Return a table within a table; empty where there is none."""
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _target(search: Table, trials: Sequence[Trial]) -> Target | None:
    """Return a run's target; None without one that can be read."""
    from q2.plugins import Plugins

    try:
        names = {name for trial in trials for name in trial.metrics}
        return Target.parse(str(search["target"]), [*names, *Plugins(entry_points=False).of(METRICS)])
    except (KeyError, TargetError):
        return None
