"""Everything that q2 reads, damaged: each reader takes it or refuses it in one line, quickly and in little memory.

    python -m benchmarks.fuzz [--cases 100000] [--seed 0] [--start 0] [--only READER …] [--folder DIR]

Case number `i` of a seed is the same wherever it is started, so a run goes on with ``--start``, and one case is shown
again with ``--start i --cases 1``. Cases go round the readers in turn. Prints a table: how many cases each reader had,
how many it took and refused, and every fault with its place and a case: anything raised but a `Q2Error`, an error
that is not one line, a warning, more than 2 s of processor time, and more than 1 GiB of memory beyond what was there.
"""

import argparse
import random
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzzing.readers import Reader, readers
from q2.errors import Q2Error
from q2.tables import drawn

SECONDS, MEMORY = 2.0, 2**30
PROGRESS = 5000
TURNS, SLOW = 20, ("packed folders", "saved modules")
"""In so many rounds over the readers, those that load a whole model have one turn."""


class TooSlowError(BaseException):
    """A reader took longer than it may; no `except Exception` takes it."""


@dataclass
class Count:
    """What became of one reader's cases; `faults` by place, with how many and the first case."""

    taken: int = 0
    refused: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """How many there were."""
        return self.taken + self.refused + self.faults.total()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--traceback", action="store_true", help="show that of every fault")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        found = fuzz(options.folder or Path(made), options.cases, options)
    counts = found.values()
    faults = sum(count.faults.total() for count in counts)
    print(table(found))
    for name, count in found.items():
        for fault, many in count.faults.most_common():
            print(f"{name}: {many} times, first in case {count.first[fault]}: {fault}")
    total, seconds = sum(count.cases for count in counts), sum(count.seconds for count in counts)
    print(f"{total} cases of seed {options.seed} from {options.start}, {faults} faults, {seconds:.0f} s")
    raise SystemExit(1 if faults else 0)


def fuzz(folder: Path, cases: int, options: argparse.Namespace | None = None) -> dict[str, Count]:
    """Run `cases` cases, and return what became of them by reader; without `options` of the quick ones alone."""
    start, only, seed = (options.start, options.only, options.seed) if options else (0, [], 0)
    chosen = [each for each in readers(folder, slow=options is not None) if not only or each.name in only]
    found = {each.name: Count() for each in chosen}
    turns = [each for turn in range(TURNS) for each in chosen if turn == 0 or each.name not in SLOW]
    for each in chosen:
        each.whole()
    with limited():
        for number in range(start, start + cases):
            one = turns[number % len(turns)]
            if number % PROGRESS == PROGRESS - 1:
                print(f"{number + 1 - start} cases", flush=True)
            run(one, number, random.Random(f"{seed} {number}"), found[one.name], bool(options and options.traceback))
    return found


def run(reader: Reader, number: int, rng: random.Random, count: Count, shown: bool = False) -> None:
    """Damage something that `reader` reads, let it read that, and count what it does."""
    with reader.case(rng) as read:
        started = time.process_time()
        fault = outcome(read)
        seconds = time.process_time() - started
    count.seconds += seconds
    count.slowest = max(count.slowest, seconds)
    if fault is None:
        count.taken += 1
    elif isinstance(fault, Q2Error) and len(str(fault).splitlines()) == 1:
        count.refused += 1
    else:
        place = where(fault)
        if place not in count.faults:
            print(f"{reader.name}, case {number}: {place}", flush=True)
        count.first.setdefault(place, number)
        count.faults[place] += 1
        if shown:
            traceback.print_exception(fault)


def outcome(read: Callable[[], object]) -> BaseException | None:
    """Return what `read` raises within its time, None if nothing."""
    signal.signal(signal.SIGPROF, too_slow)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (that is what is looked for)
        return error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def too_slow(*_: object) -> None:
    raise TooSlowError(f"more than {SECONDS:g} s")


def where(error: BaseException) -> str:
    """Return an error's class, its text, and the last line of q2's code that it went through."""
    if isinstance(error, Q2Error):
        return f"{type(error).__name__}: not one line: {str(error)[:80]!r}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/q2/" in frame.filename]
    place = f"q2/{frames[-1].filename.rpartition('/q2/')[2]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {place}: {' '.join(str(error).split())[:80]!r}"


@contextmanager
def limited() -> Iterator[None]:
    """Let the process take `MEMORY` bytes of address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def table(found: dict[str, Count]) -> str:
    """Return a row for every reader."""
    heads = ("reader", "cases", "taken", "refused", "faults", "slowest ms", "mean ms")
    rows: list[Sequence[object]] = [
        (
            name,
            count.cases,
            count.taken,
            count.refused,
            count.faults.total(),
            f"{1e3 * count.slowest:.0f}",
            f"{1e3 * count.seconds / max(count.cases, 1):.2f}",
        )
        for name, count in found.items()
    ]
    return drawn(heads, rows, limit=len(rows))


if __name__ == "__main__":
    main()
