"""Trials as a table: for a notebook, and for pandas where that is installed."""

from collections.abc import Sequence
from typing import Any, SupportsIndex, overload

from q2.errors import Q2Error
from q2.search.trials.trial import Trial
from q2.tables import drawn

__all__ = ["TrialTable"]


class TrialTable(list[Trial]):
    """A list of trials that shows itself as a table: as text, its first 20 rows.

    >>> print(TrialTable([Trial({"proj": "uaq-4"}, {"avg_bits": 4.2}, number=0)]))
    number    state     fidelity      avg_bits
    --------  --------  ----------  ----------
    0         complete  full               4.2
    """

    def __init__(self, trials: Sequence[Trial] = (), values: Sequence[float] = ()) -> None:
        """Take trials, and the target's value of each if it is known."""
        super().__init__(trials)
        self.values = list(values)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each trial: number, state, strategy, fidelity, the target's value, and every metric."""
        found = []
        for place, trial in enumerate(self):
            row: dict[str, Any] = {"number": trial.number, "state": trial.state, "fidelity": trial.fidelity}
            row |= {"strategy": trial.strategy} if trial.strategy else {}
            row |= {"target": self.values[place]} if self.values else {}
            found.append(row | dict(trial.metrics))
        return found

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` of `rows`, with a column of recipes. Raises `Q2Error` without pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise Q2Error("to_pandas needs pandas: pip install pandas") from error
        rows = [row | {"recipe": dict(trial.recipe)} for row, trial in zip(self.rows(), self, strict=True)]
        return pd.DataFrame(rows)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Trial: ...

    @overload
    def __getitem__(self, place: slice) -> "TrialTable": ...

    def __getitem__(self, place: SupportsIndex | slice) -> "Trial | TrialTable":
        """Return a trial, or a table of several."""
        if isinstance(place, slice):
            return TrialTable(list(self)[place], self.values[place])
        return super().__getitem__(place)

    def __str__(self) -> str:
        return self._drawn("simple")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        return self._drawn("html")

    def _drawn(self, form: str) -> str:
        rows = self.rows()
        heads = list(dict.fromkeys(name for row in rows for name in row))
        return drawn(heads, [[row.get(name, "") for name in heads] for row in rows], form) if rows else "no trials"
