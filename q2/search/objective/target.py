"""Targets: what a search maximizes, an arithmetic expression over the metrics of a trial.

As in AutoBuild (CVPR'24) and Qua²SeDiMo (AAAI'25), whose ``-1*FID-GT-1k - avg_bits*150`` is read as written; there the
text is evaluated as Python, here it is parsed (see `q2.search.objective.grammar`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from q2.errors import TargetError, did_you_mean
from q2.search.objective.expression import DivisionError, Node
from q2.search.objective.grammar import ExpressionError, parse

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A checked expression over metrics; larger is better. Made by `parse`.

    >>> target = Target.parse("-1*FID-GT-1k - avg_bits*150", ["FID-GT-1k", "avg_bits", "bops"])
    >>> target.metrics
    ('FID-GT-1k', 'avg_bits')
    >>> target.value({"FID-GT-1k": 90.0, "avg_bits": 4.0})
    -690.0
    """

    text: str
    node: Node

    @classmethod
    def parse(cls, text: str, metrics: Collection[str]) -> "Target":
        """Read `text`: numbers, metrics, ``+ - * / // % **``, brackets, and NumPy's functions such as log, exp or clip.

        A metric's name may hold dashes and digits: the longest name in `metrics` that fits is meant, so with ``a``,
        ``b`` and ``a-b`` among them a difference is written ``a - b``. Raises `TargetError`: one line with the column.

        >>> Target.parse("log(FID-GT-2k)", ["FID-GT-1k"])
        Traceback (most recent call last):
        q2.errors.TargetError: target 'log(FID-GT-2k)': column 5: unknown metric 'FID-GT-2k'; did you mean 'FID-GT-1k'?
        """
        try:
            node = parse(text, metrics)
        except ExpressionError as error:
            raise TargetError(f"target {text!r}: column {error.column}: {error}") from None
        if not node.names:
            raise TargetError(f"target {text!r}: no metric in it, every trial would have the same value")
        return cls(text, node)

    def __str__(self) -> str:
        return self.text

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that it needs, each once, in the order of the text."""
        return self.node.names

    def value(self, metrics: Mapping[str, float], label: str = "the trial") -> float:
        """Return the value of one trial. Raises `TargetError`, as `values` does."""
        return float(self.values([metrics], [label])[0])

    def finite(self, metrics: Mapping[str, float]) -> float | None:
        """Return the value of one trial; None where it lacks a metric or the result is not finite."""
        try:
            return self.value(metrics)
        except TargetError:
            return None

    def values(self, trials: Sequence[Mapping[str, float]], labels: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Return the values of N trials, float64 (N,), from their metrics; `labels` name them in messages.

        Raises `TargetError` for a trial that lacks a metric, and where the result is a division by zero, infinite or no
        number.
        """
        columns = {name: self._column(name, trials, labels) for name in self.metrics}
        try:
            with np.errstate(all="ignore"):
                values = np.broadcast_to(self.node.evaluate(columns), len(trials))
        except DivisionError as error:
            raise self._error(str(error), error.index, labels) from None
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            index = int(wrong[0])
            given = ", ".join(f"{name} = {trials[index][name]:g}" for name in self.metrics)
            raise self._error(f"the value is {values[index]} with {given}", index, labels)
        return values.copy()

    def _column(
        self, name: str, trials: Sequence[Mapping[str, float]], labels: Sequence[str] | None
    ) -> NDArray[np.float64]:
        for index, trial in enumerate(trials):
            if name not in trial:
                raise self._error(f"metric {name!r} is missing{did_you_mean(name, trial)}", index, labels)
        return np.array([trial[name] for trial in trials], np.float64)

    def _error(self, problem: str, index: int, labels: Sequence[str] | None) -> TargetError:
        return TargetError(f"target {self.text!r}: {labels[index] if labels else f'trial {index}'}: {problem}")
