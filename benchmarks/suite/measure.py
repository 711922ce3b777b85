"""A measure: something of q2's and something that it is compared with, which take turns; and what came of it."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

__all__ = ["Measure", "Result", "Work", "measured"]

Work = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Measure:
    """Two works whose CPU seconds are compared, and how that is said.

    `made` makes both, and what they need, for the length of a `with`. `clock` gives the CPU seconds so far. A work is
    repeated until it takes `least` seconds, after a first call of both, or of q2's alone without `warms`. `weights`:
    how many weights a call is about, for a speed. `most`: a bound on the ratio that q2 promises; 0: none.
    """

    name: str
    what: str
    beside: str
    made: Callable[[], AbstractContextManager[tuple[Work, Work]]]
    quick: bool = True
    rounds: int = 5
    least: float = 0.05
    clock: Clock = time.process_time
    warms: bool = True
    weights: int = 0
    most: float = 0.0


@dataclass(frozen=True)
class Result:
    """CPU seconds of a call, the least of the rounds, of q2's work and the other; `ratio` is that of the two.

    `median`, `low` and `high` are of the rounds' own ratios.
    """

    what: str
    beside: str
    quick: bool
    rounds: int
    own: float
    other: float
    ratio: float
    median: float
    low: float
    high: float
    million_weights_a_second: float = 0.0
    most: float = 0.0

    @classmethod
    def of(cls, measure: Measure, pairs: Sequence[tuple[float, float]]) -> "Result":
        """Sum up the seconds (own, other) of rounds.

        >>> from contextlib import nullcontext
        >>> nothing = Measure("a", "a", "b", lambda: nullcontext((list, list)))
        >>> result = Result.of(nothing, [(2.0, 1.0), (3.0, 2.0), (4.0, 1.0)])
        >>> result.ratio, result.median, result.low, result.high
        (2.0, 2.0, 1.5, 4.0)
        """
        ratios = [own / other for own, other in pairs]
        own, other = (min(column) for column in zip(*pairs, strict=True))
        spread = statistics.median(ratios), min(ratios), max(ratios)
        speed = measure.weights / own / 1e6
        text = (measure.what, measure.beside, measure.quick, len(pairs))
        return cls(*text, own, other, own / other, *spread, million_weights_a_second=speed, most=measure.most)

    @classmethod
    def read(cls, entry: Mapping[str, object]) -> "Result":
        """Return what `plain` gave. Raises TypeError for other keys."""
        return cls(**entry)  # type: ignore[arg-type]

    def plain(self) -> dict[str, object]:
        """Return what goes into JSON; numbers have six digits."""
        return {key: float(f"{v:.6g}") if isinstance(v, float) else v for key, v in asdict(self).items()}


def measured(measure: Measure, rounds: int = 0) -> Result:
    """Run rounds of a measure after one that compiles, and sum up."""
    with measure.made() as works:
        gc.collect()
        for work in works if measure.warms else works[:1]:
            work()
        pairs = [_round(works, measure) for _ in range(rounds or measure.rounds)]
    return Result.of(measure, pairs)


def _round(works: tuple[Work, Work], measure: Measure) -> tuple[float, float]:
    own, other = (min(_seconds(work, measure)) for work in works)
    return own, other


def _seconds(work: Work, measure: Measure) -> Iterator[float]:
    """Yield the seconds of single calls until they took `least` together."""
    spent = 0.0
    while True:
        start = measure.clock()
        work()
        took = max(measure.clock() - start, 1e-9)
        yield took
        spent += took
        if spent >= measure.least:
            return
