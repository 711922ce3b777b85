"""The progress of a search: a line for every trial, the best so far, the number of failures, and the time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from q2.search.metrics.base import Metric
from q2.search.strategies.base import Problem
from q2.search.trials.trial import Trial

__all__ = ["Tally", "clock"]


def clock(seconds: float) -> str:
    """Return a duration as a clock shows it.

    >>> clock(130), clock(3725)
    ('2:10', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Tally:
    """Counts the trials of one search; only trials at the search's own fidelity count towards its number.

    `now` returns the time in seconds. The time left is estimated from the trials evaluated since the tally was made.
    """

    problem: Problem
    quality: type[Metric]
    now: Callable[[], float] = time.perf_counter
    done: int = 0
    failed: int = 0
    best: tuple[float, Trial] | None = None
    _measured: int = 0
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.now()

    def add(self, trial: Trial, *, new: bool = True) -> str:
        """Count a trial, evaluated now (`new`) or known before, and return its line."""
        own = trial.fidelity == self.problem.fidelity
        self.done += own
        self._measured += own and new
        self.failed += trial.state == "failed"
        words = [f"trial {self.done}/{self.problem.trials}" if own else f"at {trial.fidelity}"]
        if trial.state == "failed":
            words.append(f"failed: {trial.error}")
        else:
            words += self._values(trial, own)
        return "  ".join([*words, self.note()])

    def note(self) -> str:
        """Return the best value so far, the number of failures and the time left, as text."""
        words = []
        if self.best:
            value, trial = self.best
            words.append(f"best {value:.4g} (#{trial.id[:6] if trial.number is None else trial.number})")
        if self.failed:
            words.append(f"failed {self.failed}")
        left = self.problem.trials - self.done
        if self._measured and left > 0:
            words.append(f"eta {clock((self.now() - self._start) / self._measured * left)}")
        return "  ".join(words)

    def _values(self, trial: Trial, own: bool) -> list[str]:
        words = []
        if self.quality.name in trial.metrics and self.quality.name != "avg_bits":
            unit = f" {self.quality.unit}" if self.quality.unit else ""
            words.append(f"{self.quality.name} {trial.metrics[self.quality.name]:.4g}{unit}")
        words.append(f"{trial.metrics['avg_bits']:.3f} bits")
        if own:
            value = self.problem.values([trial])[0]
            words.append(f"target {value:.4g}")
            allowed = all(bound.admits(trial.metrics[bound.metric]) for bound in self.problem.constraints)
            if allowed and (self.best is None or value > self.best[0]):
                self.best = value, trial
        return words
