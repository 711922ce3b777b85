"""What a search of SDXL costs on many GPUs: simulated from measured steps; and when the driver becomes the limit.

    python -m benchmarks.scale [--trials 500] [--gpus 1 12 100] [--layers 812] [--store DIR] [--part PART]

`cost` simulates 500 trials of 1,000 images: GPU hours, hours of the clock and the share of the GPUs' time in which they
work, for all trials in full, and for the rungs of `optuna`. The spread of trials' seconds is that of a real store,
`--store` for another. `driver` measures the CPU seconds a trial of the process that searches, with workers that take no
time, and says how many GPUs keep it busy. `messages` prints the bytes of a job and its result as Ray pickles them.
"""

import argparse
import math
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.scaling.driver import Timed, folder_bytes, messages, timed
from benchmarks.scaling.simulation import FIDELITIES, SPREAD, Driver, full, laddered, seconds_of, simulate, spread_of
from q2.search.strategies.base import Strategy
from q2.search.strategies.optuna import Optuna
from q2.search.strategies.random import Random
from q2.tables import drawn

PARTS = ("all", "cost", "driver", "messages")
HOUR = 3600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 12, 100])
    parser.add_argument("--layers", type=int, default=812)
    parser.add_argument("--store", type=Path, help="a trial store, for the spread of trials' seconds")
    parser.add_argument("--tpe", type=int, default=60, help="how many trials of TPE are measured")
    parser.add_argument("--part", choices=PARTS, default="all")
    given = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, {given.layers} choices", flush=True)
    took = driven(given.layers, given.trials, given.tpe) if given.part in ("all", "driver") else {}
    if given.part in ("all", "cost"):
        cost(given.trials, given.gpus, spread_of(given.store) if given.store else SPREAD, took)
    if given.part in ("all", "messages"):
        sent(given.layers)


def driven(layers: int, trials: int, tpe: int) -> dict[str, Timed]:
    """Print CPU ms a trial of strategies, and how many GPUs keep the driver busy at each fidelity."""
    strategies: list[tuple[str, Strategy, int]] = [
        ("random", Random(), trials),
        ("optuna, random", Optuna(sampler="random"), trials),
        ("optuna, tpe", Optuna(), tpe),
    ]
    found: dict[str, Timed] = {}
    rows: list[Sequence[object]] = []
    for name, strategy, count in strategies:
        with tempfile.TemporaryDirectory() as folder:
            each = found[name] = timed(strategy, Path(folder) / "trials", count, layers)
        busy = each.ask + each.tell + each.rest
        most = [math.floor(seconds_of(fidelity) / busy) for fidelity in FIDELITIES]
        shown = [f"{1e3 * seconds:.1f}" for seconds in (each.ask, each.tell, each.rest, each.wall)]
        rows.append((name, each.trials, *shown, *(f"{number:,}" for number in most)))
    heads = ("strategy", "trials", "ask ms", "tell ms", "store ms", "wall ms", *(f"GPUs, {f}" for f in FIDELITIES))
    print(f"\nCPU of the driver, a trial; how many GPUs at a fidelity keep it busy\n{drawn(heads, rows)}", flush=True)
    return found


def cost(trials: int, gpus: Sequence[int], spread: Sequence[float], took: Mapping[str, Timed]) -> None:
    """Print the table of plans and GPUs; the driver takes what was measured, or no time."""
    drivers = {name: took[name].driver if name in took else Driver() for name in ("random", "optuna, tpe")}
    print(f"\nseconds of a trial: {', '.join(f'{name} {seconds_of(name):,.4g}' for name in FIDELITIES)}")
    rows: list[Sequence[object]] = []
    for count in gpus:
        plans = {"all in full": full(trials), "rungs, batch 16": laddered(trials, 16)}
        if count > 4:
            plans[f"rungs, batch {4 * count}"] = laddered(trials, 4 * count)
        for name, rounds in plans.items():
            taken = drivers["random" if name == "all in full" else "optuna, tpe"]
            done = simulate(rounds, count, taken, spread=spread)
            wanted = sum(each.trials for each in rounds if each.fidelity == "full")
            cells = (f"{done.worked / HOUR:,.1f}", f"{done.wall / HOUR:,.2f}", f"{100 * done.busy:.0f} %")
            rows.append((count, name, f"{done.trials:,}", wanted, *cells, f"{done.driver:,.1f}"))
    heads = ("GPUs", "plan", "trials", "in full", "GPU hours", "hours", "busy", "driver s")
    print(drawn(heads, rows, limit=len(rows)), flush=True)


def sent(layers: int) -> None:
    """Print what travels."""
    sizes = messages(layers)
    print("\nas Ray pickles them: " + ", ".join(f"a {name} {size / 1e3:.1f} KB" for name, size in sizes.items()))
    for images in (64, 1000):
        print(f"full precision's {images} images, to a node that shares no folder: {folder_bytes(images) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
