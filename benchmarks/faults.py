"""What commands leave behind when they are killed, when the disk is full, and when their surroundings are odd.

    python -m benchmarks.faults [--kills 200] [--minutes 60] [--only NAME …] [--part kills|checks] [--seed 0]

A round starts a command, kills it (SIGKILL, with no chance to clean up) at a random moment and starts it again, up to
five times, then lets it end. It passes if the result is byte for byte that of an undisturbed run (of trials all but
the seconds), nothing that was complete was lost or changed, no file is left over and no process. There are rounds until
every command was killed `--kills` times, or for `--minutes`. The search with Ray runs on a cluster of two nodes on this
machine, which stays up: of its processes those that work for the killed search must end.

The other checks run a command once each: SIGTERM, Ctrl-C, a full disk (a small tmpfs, where one can be mounted), a
closed standard output, `LC_ALL=C`, a home that cannot be written to, a read-only folder, two processes in one folder, a
clock that jumps; with Ray also a node that is lost or comes late, `ray://` (where grpcio is installed), and a cluster
that the search has started itself. Prints tables of kills and of checks.

Commands run in forks of this process, which has imported what they need: a kill may come at any moment of their work.
"""

import argparse
import random
import re
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.faulty.clustered import RAY_CHECKS
from benchmarks.faulty.rounds import Count, killed_rounds
from benchmarks.faulty.scenarios import ON_RAY, SCENARIOS, Scenario
from benchmarks.faulty.surroundings import CHECKS, Check
from q2.tables import drawn

FAILED = "FAILED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=60, help="at most so long for the kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--part", choices=("kills", "checks"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    chosen = [each for each in SCENARIOS if not options.only or each.name in options.only]
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        counts = kills(chosen, folder, options.kills, options.minutes, options.seed) if options.part != "checks" else []
        failed = surroundings(chosen, folder) if options.part != "kills" else 0
    raise SystemExit(1 if failed or any(count.failures for count in counts) else 0)


def kills(chosen: Sequence[Scenario], folder: Path, wanted: int, minutes: float, seed: int) -> list[Count]:
    """Run rounds until each command was killed so many times, and print a table."""
    counts = []
    for scenario in chosen:
        rng = random.Random(f"{seed} {scenario.name}")
        count = killed_rounds(scenario, folder / scenario.name, wanted, minutes, rng)
        counts.append(count)
        print(
            f"{scenario.name}: {count.rounds} rounds, {count.kills} kills, {len(count.failures)} failures", flush=True
        )
    rows = [
        (count.name, count.rounds, count.kills, count.late, len(count.failures), f"{count.seconds:.1f}")
        for count in counts
    ]
    print(drawn(("killed with -9", "rounds", "kills", "ended first", "failures", "undisturbed s"), rows))
    for count in counts:
        for failure in count.failures:
            print(f"{count.name}: {failure}")
    return counts


def surroundings(chosen: Sequence[Scenario], folder: Path) -> int:
    """Run every check of every scenario once, print a table, and return how many failed."""
    rows = [(scenario.name, *_checked(scenario, CHECKS, folder)) for scenario in chosen]
    on_cluster = [
        (name, said)
        for scenario in chosen
        if scenario.name == ON_RAY
        for name, said in zip(RAY_CHECKS, _checked(scenario, RAY_CHECKS, folder), strict=True)
    ]
    if on_cluster:
        print(drawn((ON_RAY, ""), on_cluster))
    print(drawn(("", *CHECKS), rows))
    return sum(each == FAILED for row in (*rows, *on_cluster) for each in row)


def _checked(scenario: Scenario, checks: Mapping[str, Check], folder: Path) -> list[str]:
    """Return what came of each check."""
    row = []
    for name, check in checks.items():
        place = folder / f"{scenario.name}-{re.sub(r'[^A-Za-z0-9]+', '-', name)}"
        place.mkdir(parents=True)
        try:
            row.append(check(scenario, place))
        except AssertionError as error:
            row.append(FAILED)
            print(f"{scenario.name}, {name}: {error}", flush=True)
        except Exception:  # noqa: BLE001 (the others go on)
            row.append(FAILED)
            traceback.print_exc()
    return row


if __name__ == "__main__":
    main()
