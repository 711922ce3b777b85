"""Makes a store of ten thousand made-up trials, and prints what it takes to read, list, merge and export it.

    python -m benchmarks.trials [--trials 10000] [--layers 812] [--options 9] [--folder DIR] [--full] [--round 1000]

Every step runs in a process of its own; its CPU seconds without imports are printed, and its greatest memory. `--full`
writes the same trials with full recipes too, as stores of version 1 have them, and reads both in turns. `--round` has
the strategy `predictor` propose 20 recipes of SDXL (on meta) from so many random trials with made-up targets.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from q2.search.trials.exchange import export
from q2.search.trials.lines import line
from q2.search.trials.listing import Listing
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

RUN = Fingerprint("made-up", "0a1b", "0.1.0", {"images": 200})
MEASURED = ("SQNR", "latent-SQNR", "PSNR", "SSIM", "judge-fid", "judge-accuracy")
SUMS = ("avg_bits", "quantized_error", "bops")
BATCH = 500


def made_up(count: int, layers: int, options: int) -> Iterator[Trial]:
    """Yield trials with nine metrics, six of them with intervals, of layers named as those of SDXL."""
    rng = random.Random(0)
    names = [f"down_blocks.{i % 3}.attentions.{i % 2}.transformer_blocks.{i // 6}.attn1.to_q" for i in range(layers)]
    texts = [f"{kind}-{bits}" for bits in range(1, 9) for kind in ("kmeans-c", "kmeans-a", "uaq")][:options]
    for number in range(count):
        values = {name: 20 * rng.random() for name in (*MEASURED, *SUMS)}
        bounds = {name: (values[name] - rng.random(), values[name] + rng.random()) for name in MEASURED}
        recipe = dict(zip(names, rng.choices(texts, k=layers), strict=True))
        yield Trial(recipe, values, bounds, number=number, seconds=9 * rng.random(), strategy="random")


def write(folder: Path, count: int, layers: int, options: int) -> None:
    """Write the store, a batch at a time."""
    store, batch = TrialStore.open(folder, RUN), list[Trial]()
    for trial in made_up(count, layers, options):
        batch.append(trial)
        if len(batch) == BATCH:
            store.extend(batch)
            batch.clear()
    store.extend(batch)


def write_full(folder: Path, count: int, layers: int, options: int) -> None:
    """Write the store as version 1 has it."""
    TrialStore.open(folder, RUN)
    head = folder / "store.json"
    head.write_text(json.dumps(json.loads(head.read_text("utf-8")) | {"version": 1}), "utf-8")
    with (folder / f"{0:032x}.jsonl").open("wb") as file:
        file.writelines(line("trial", trial.to_json().encode()) for trial in made_up(count, layers, options))


def merge(folder: Path, out: Path) -> None:
    """Merge the store into a new one."""
    store = TrialStore.read(folder)
    TrialStore.open(out / "merged", store.fingerprint).merge(store)


STEPS: dict[str, Callable[[Path, Path], object]] = {
    "open": lambda folder, out: TrialStore.read(folder),
    "ls": lambda folder, out: Listing.of(TrialStore.read(folder)).rows("-SQNR"),
    "merge": merge,
    "export json": lambda folder, out: export(TrialStore.read(folder), out / "out.json"),
    "export csv": lambda folder, out: export(TrialStore.read(folder), out / "out.csv", "csv"),
}


def step(name: str, folder: Path) -> None:
    """Run a step in this process, and print its CPU seconds and the process's greatest memory in MB."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        start = time.process_time()
        STEPS[name](folder, Path(out))
        took = time.process_time() - start
    print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


def measured(name: str, folder: Path) -> tuple[float, float]:
    """Run a step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.trials", "--step", name, "--folder", str(folder)]
    seconds, megabytes = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return seconds, megabytes


def predict(count: int) -> None:
    """Print the CPU seconds of a predictor's round: all of it, and the encoding of its trials."""
    import numpy as np

    from q2.config import RunFile
    from q2.passes import PassContext
    from q2.search.evaluation.costs import Costs
    from q2.search.predictor.learn import Learner
    from q2.search.strategies.predictor import Predictor
    from q2.session.problem import problem_of
    from q2.session.session import Session

    given = ["denoiser.weights=meta", "search.target=SQNR - 4*avg_bits", "search.evaluation.metrics=[]"]
    session = Session(RunFile.load("sdxl.toml", given))
    costs = Costs.of_graph(session.outline, session.space, PassContext(session.plugins, session.shapes), None)
    with tempfile.TemporaryDirectory() as scratch:
        problem = problem_of(session, session.outline, session.space, costs, Path(scratch))
        rng, trials = np.random.default_rng(0), list[Trial]()
        matters = rng.lognormal(size=len(problem.space.choices))
        store = TrialStore.open(Path(scratch) / "trials", RUN)
        for number in range(count):
            chosen = problem.space.random(rng)
            recipe = problem.space.decode(chosen)
            values = {**costs.metrics(recipe), "SQNR": float(-(matters * chosen).sum() / matters.sum())}
            trials.append(Trial(recipe, values, number=number))
        store.extend(trials)
        trials = list(store)
        learner, start = Learner(problem, Predictor()), time.process_time()
        learner.bridge.encode([trial.recipe for trial in trials])
        encoded = time.process_time()
        learner.round(trials, 20)
        took = time.process_time() - encoded
    print(f"{'round':<12} {took:8.2f} s, of {count} trials of {len(matters)} choices; encoding {encoded - start:.2f} s")


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=812)
    parser.add_argument("--options", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if none is named")
    parser.add_argument("--full", action="store_true", help="version 1 of the store beside")
    parser.add_argument("--round", type=int, help="a predictor's round from so many trials, and nothing else")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        step(given.step, given.folder)
        return
    if given.round:
        predict(given.round)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        store, full = Path(scratch) / "trials", Path(scratch) / "full"
        write(store, given.trials, given.layers, given.options)
        print(f"{given.trials} trials of {given.layers} layers, {given.options} options; CPU seconds, greatest memory")
        print(f"{'disk':<12} {size(store) / given.trials / 1000:8.2f} KB a trial")
        for name in STEPS:
            seconds, megabytes = measured(name, store)
            print(f"{name:<12} {seconds:8.2f} s {megabytes:8.0f} MB", flush=True)
        if given.full:
            write_full(full, given.trials, given.layers, given.options)
            print(f"{'full: disk':<12} {size(full) / given.trials / 1000:8.2f} KB a trial")
            seconds, megabytes = measured("open", full)
            again, _ = measured("open", store)
            print(f"{'full: open':<12} {seconds:8.2f} s {megabytes:8.0f} MB, {seconds / again:.1f} times as long")


if __name__ == "__main__":
    main()
