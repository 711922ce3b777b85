"""How far metrics can be trusted: two evaluations of the same recipes, and cheap fidelities against the full one.

    python benchmarks/fidelity.py digits-dit --folder DIR [--workers 2]

Runs ``q2 search`` with random recipes into folders below DIR, each of which resumes; then prints for every metric and
number of images Spearman's correlation between two seeds of the noise, and of every cheaper fidelity with the full one.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from q2.search.metrics.rank import spearman_estimate
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial

METRICS = ("latent-SQNR", "PSNR", "SSIM", "judge-fid-fp", "judge-fid", "judge-accuracy", "SQNR")
IMAGES: Mapping[str, Sequence[int]] = {"digits-dit": (50, 200, 500), "digits-sdxl": (50, 100, 200)}
FULL: Mapping[str, tuple[int, int]] = {"digits-dit": (200, 200), "digits-sdxl": (100, 100)}  # images, recipes
RECIPES = 60
Trials = dict[tuple[tuple[str, str], ...], Trial]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=list(IMAGES))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    name, workers = options.name, options.workers
    images, recipes = FULL[name]

    def run(count: int, seed: int, trials: int, fidelity: str = "full") -> Trials:
        folder = options.folder / f"{name}-{fidelity}-{count}-{seed}"
        sets = [
            f"search.evaluation.images={count}",
            f"search.evaluation.seed={seed}",
            f"search.evaluation.fidelity={fidelity}",
            f"search.evaluation.metrics={list(METRICS)}".replace("'", '"'),
            f"search.engine.workers={workers}",
            "search.target=latent-SQNR",
        ]
        command = [sys.executable, "-m", "q2", "search", "--config", f"{name}.toml", "--strategy", "random"]
        command += ["--trials", str(trials), "--out", str(folder), *(part for text in sets for part in ("--set", text))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = [trial for trial in TrialStore.read(folder / "trials") if trial.state == "complete"]
        return {tuple(sorted(trial.recipe.items())): trial for trial in found[:trials]}

    for count in IMAGES[name]:
        first, second = (run(count, seed, RECIPES) for seed in (0, 1))
        seconds = sum(trial.seconds for trial in first.values()) / len(first)
        print(f"\n{name}, {count} images, {len(first)} recipes, two seeds: reliability ({seconds:.1f} s a trial)")
        for metric in METRICS:
            line(metric, first, second, of(metric), of(metric))
    full, few = run(images, 0, recipes), run(images, 0, recipes, "few-step")
    for target in ("latent-SQNR", "judge-fid-fp", "judge-fid"):
        print(f"\n{name}, {len(full)} recipes: correlation with {target} of {images} images")
        line("quantized_error", full, full, lambda trial: -trial.metrics["quantized_error"], value_of(target))
        line("avg_bits", full, full, of("avg_bits"), value_of(target))
        line("forward: SQNR", full, full, of("SQNR"), value_of(target))
        for metric in ("latent-SQNR", "PSNR", "judge-fid-fp", "judge-fid"):
            line(f"few-step: {metric}", few, full, value_of(metric), value_of(target))


def of(metric: str) -> Callable[[Trial], float]:
    return lambda trial: trial.metrics[metric]


def value_of(metric: str) -> Callable[[Trial], float]:
    sign = -1 if "fid" in metric else 1
    return lambda trial: sign * trial.metrics[metric]


def line(
    name: str, first: Trials, second: Trials, one: Callable[[Trial], float], other: Callable[[Trial], float]
) -> None:
    both = [recipe for recipe in first if recipe in second]
    found = spearman_estimate([one(first[recipe]) for recipe in both], [other(second[recipe]) for recipe in both])
    print(f"  {name:28} {found.value:6.3f}   [{found.low:.3f}, {found.high:.3f}]   {len(both)} recipes")


if __name__ == "__main__":
    main()
