"""What commands leave behind when they are killed, when the disk is full, and when their surroundings are odd.

    python -m benchmarks.faults [--rounds 200] [--seed 0] [--only NAME …] [--folder DIR]

A round starts a command, kills it (SIGKILL, with no chance to clean up) at a random moment and starts it again, up to
three times, then lets it end. It passes if the result is byte for byte that of an undisturbed run (of trials all but
the seconds), nothing that was complete was lost or changed, no file is left over and no process. The other checks run a
command once each: SIGTERM, a full disk (a small tmpfs, where one can be mounted), a closed standard output, `LC_ALL=C`,
a home that cannot be written to, a read-only folder, two processes in one folder. Prints a table of rounds,
kills and failures.

Commands run in forks of this process, which has imported q2's libraries: a kill may come at any moment of their work.
"""

import argparse
import importlib
import random
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faulty.rounds import Count, killed_rounds
from benchmarks.faulty.scenarios import SCENARIOS, Scenario
from benchmarks.faulty.surroundings import CHECKS
from q2.tables import drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    preload()
    chosen = [each for each in SCENARIOS if not options.only or each.name in options.only]
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        counts = kills(chosen, folder, options.rounds, options.seed)
        failed = surroundings(chosen, folder) if chosen else 0
    raise SystemExit(1 if failed or any(count.failures for count in counts) else 0)


def preload() -> None:
    """Import what the commands import, so that their forks need not."""
    for name in (
        "bank",
        "calibrate",
        "modules.search",
        "modules.training",
        "modules.transform",
        "predict",
        "transform",
    ):
        importlib.import_module(f"q2.session.{name}")
    for name in ("q2.session.search", "q2.search.predictor.tables", "q2.quant.kernels.optimal", "diffusers", "q2.cli"):
        importlib.import_module(name)


def kills(chosen: Sequence[Scenario], folder: Path, rounds: int, seed: int) -> list[Count]:
    """Run rounds of kills, and print a table."""
    counts = []
    for scenario in chosen:
        count = killed_rounds(scenario, folder / scenario.name, rounds, random.Random(f"{seed} {scenario.name}"))
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
    rows, failed = [], 0
    for scenario in chosen:
        row = [scenario.name]
        for name, check in CHECKS.items():
            place = folder / f"{scenario.name}-{name.replace(' ', '-')}"
            place.mkdir(parents=True)
            try:
                row.append(check(scenario, place))
            except AssertionError as error:
                row.append("FAILED")
                failed += 1
                print(f"{scenario.name}, {name}: {error}")
            except Exception:  # noqa: BLE001 (the others go on)
                row.append("FAILED")
                failed += 1
                traceback.print_exc()
        rows.append(row)
    print(drawn(("", *CHECKS), rows))
    return failed


if __name__ == "__main__":
    main()
