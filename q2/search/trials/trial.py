"""Trials: a recipe with what was measured of it."""

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, get_args

from q2.errors import TrialError
from q2.files import parse_json
from q2.search.trials.encoding import EncodedRecipe, plain

__all__ = ["FULL_PRECISION", "State", "Trial", "join"]

FULL_PRECISION = "full precision"
"""What full precision is called beside recipes: in tables, pictures and reports."""
State = Literal["complete", "failed"]
_LOPSIDED = 0.1
"""From which share of an interval on its middle is too far from the value for ± to be honest."""


@dataclass(frozen=True)
class Trial:
    """A recipe (weight layer, or part of a split one, to option, as text) and its metrics at one fidelity and seed.

    It shows itself as a line, without the recipe.

    `intervals` are the bounds (low, high) of all metrics that are estimates. `seed` is that of the evaluation, `number`
    the search's own count, `seconds` the time the evaluation took. A failed trial says why in `error`. Raises
    `TrialError` for a metric that is infinite or no number, which no target could rank.

    >>> trial = Trial({"proj": "uaq-4"}, {"avg_bits": 4.2}, number=3)
    >>> trial
    trial 3: 1 layer, complete, full, avg_bits 4.2
    >>> trial.id == Trial({"proj": "uaq-4"}, {"avg_bits": 4.3}).id
    True
    >>> trial.id == Trial({"proj": "uaq-3"}).id
    False
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    recipe: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fidelity: str = "full"
    seed: int = 0
    number: int | None = None
    seconds: float = 0.0
    strategy: str = ""
    state: State = "complete"
    error: str = ""

    def __post_init__(self) -> None:
        numbers = {**self.metrics, "seconds": self.seconds}
        for name, bounds in self.intervals.items():
            numbers |= {f"{name} (low)": bounds[0], f"{name} (high)": bounds[1]}
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise TrialError(f"trial {self.id}: {name} is {value}, expected a finite number")
        bounded = {_shared(name): (float(low), float(high)) for name, (low, high) in self.intervals.items()}
        if not isinstance(self.recipe, EncodedRecipe):  # which nobody can change
            object.__setattr__(self, "recipe", dict(self.recipe))
        object.__setattr__(self, "metrics", {_shared(name): float(value) for name, value in self.metrics.items()})
        object.__setattr__(self, "intervals", bounded)

    def __repr__(self) -> str:
        layers = f"{len(self.recipe)} layer{'' if len(self.recipe) == 1 else 's'}"
        words = [layers, self.state, self.fidelity]
        shown = ", ".join([*words, *(f"{name} {self.shown(name)}" for name in self.metrics)])
        return f"{self.label}: {shown}" + (f" ({self.error})" if self.error else "")

    @cached_property
    def id(self) -> str:
        """16 hex digits over recipe, fidelity and evaluation seed: what was asked, not what came out."""
        asked = [sorted(self.recipe.items()), self.fidelity, self.seed]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """What messages and tables call it."""
        return f"trial {self.id[:8] if self.number is None else self.number}"

    def shown(self, name: str) -> str:
        """Return a metric as people read it; an estimate has its interval behind it, both bounds if lopsided.

        >>> Trial({}, {"SQNR": 11.83, "bops": 1.5}, {"SQNR": (10.7, 12.9)}).shown("SQNR")
        '11.83 ± 1.1'
        >>> Trial({}, {"PSNR": 100.0}, {"PSNR": (100.0, 100.0)}).shown("PSNR")
        '100 ± 0'
        >>> Trial({}, {"judge-fid": 1.083}, {"judge-fid": (0.0, 2.98)}).shown("judge-fid")
        '1.083 (0 to 2.98)'
        """
        value = self.metrics[name]
        if name not in self.intervals:
            return f"{value:.6g}"
        low, high = self.intervals[name]
        if abs((high - value) - (value - low)) > _LOPSIDED * (high - low):
            return f"{value:.4g} ({low:.3g} to {high:.3g})"
        return f"{value:.4g} ± {max(high - value, value - low):.2g}"

    def to_json(self) -> str:
        """Return one line of JSON, the same for equal trials; defaults are left out.

        >>> Trial({"b": "uaq-4", "a": "uaq-3"}, {"bops": 1.0}).to_json()
        '{"metrics":{"bops":1.0},"recipe":{"a":"uaq-3","b":"uaq-4"}}'
        """
        return json.dumps(self.table(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def table(self) -> dict[str, object]:
        """Return the fields as a table, without fields that have their default."""
        return {"recipe": plain(self.recipe), **self.facts()}

    def facts(self) -> dict[str, object]:
        """Return the table without the recipe."""
        given = {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "recipe"}
        return {name: value for name, value in given.items() if value != getattr(_PLAIN, name)}

    @classmethod
    def from_json(cls, text: str) -> "Trial":
        """Return the trial that `to_json` wrote. Raises `TrialError` for anything else."""
        try:
            trial = cls(**parse_json(text))
            trial.check()
        except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
            raise TrialError(f"no trial: {error}") from None
        return trial

    def check(self) -> None:
        """Raise TypeError for a field of another type than it says; `__post_init__` has seen to the numbers."""
        texts = {"fidelity": self.fidelity, "strategy": self.strategy, "state": self.state, "error": self.error}
        texts |= {} if isinstance(self.recipe, EncodedRecipe) else dict(self.recipe)
        wrong = next((name for name, text in texts.items() if not isinstance(text, str)), None)
        whole = {"seed": self.seed, "number": 0 if self.number is None else self.number}
        wrong = wrong or next((name for name, value in whole.items() if type(value) is not int), None)
        if wrong or self.state not in get_args(State):
            raise TypeError(f"{wrong or 'state'} is not what it should be")


def _shared(name: str) -> str:
    """Return the one copy of a metric's name that all trials share."""
    return sys.intern(str(name))


_PLAIN = Trial({})


def join(records: Iterable[Trial]) -> Trial:
    """Return what several records of one trial say together, whatever their order.

    Complete records replace failed ones. Metrics are joined; where two records disagree, the one whose text has the
    smaller hash is believed, a choice that favours neither low nor high values.

    >>> join([Trial({}, {"kid": 2.0}), Trial({}, {"bops": 1.0}), Trial({}, state="failed", error="killed")]).metrics
    {'bops': 1.0, 'kid': 2.0}
    """
    ranked = list(records)
    if len(ranked) == 1:
        return ranked[0]
    ranked.sort(key=_rank)
    best = [record for record in ranked if record.state == ranked[0].state]
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for record in best:
        new = record.metrics.keys() - metrics.keys()
        metrics |= {name: record.metrics[name] for name in new}
        intervals |= {name: bounds for name, bounds in record.intervals.items() if name in new}
    return replace(best[0], metrics=dict(sorted(metrics.items())), intervals=dict(sorted(intervals.items())))


def _rank(trial: Trial) -> tuple[bool, str]:
    return trial.state != "complete", hashlib.sha256(trial.to_json().encode()).hexdigest()
