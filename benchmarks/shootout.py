"""A fair shoot-out: strategies search on a cheap fidelity within a budget of bits; what each chose is drawn in full.

    python -m benchmarks.shootout digits-dit --folder DIR [--trials 150 300] [--seeds 5] [--bits 3.5]

All searches share a store in DIR, so that a run which was stopped goes on. Prints, for every number of trials, the best
SQNR of the forward pass that a strategy found, and what its chosen recipes do to images: mean and 95 % interval over
the seeds, and in how many seeds the predictor is better; below that the options, each for the whole denoiser. Writes
DIR/shootout.json.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from q2.commands.console import print_step, text_table
from q2.config import RunFile
from q2.files import write_json
from q2.passes import Step, TextTable
from q2.search.comparison import mean_of
from q2.search.space import Indices
from q2.search.strategies.base import Problem, Searcher, Strategy
from q2.search.strategies.listed import Listed
from q2.search.trials.trial import Trial
from q2.session.problem import strategy_of
from q2.session.search import OpenSearch, opened
from q2.session.session import Session
from q2.settings import Fidelity

STRATEGIES = ("random", "optuna", "evolution", "greedy", "ilp-error", "predictor")
NETWORK = ("predictor-labels", "predictor-effects")
IMAGES = {"digits-dit": 200, "digits-sdxl": 100}
FULL = ("judge-fid-fp", "judge-fid", "judge-accuracy", "latent-SQNR")
HIGHER = {"judge-fid-fp": False, "judge-fid": False, "judge-accuracy": True, "latent-SQNR": True}


@dataclass(frozen=True)
class Chosen(Strategy):
    """Recipes that are there already, drawn in full."""

    recipes: tuple[Indices, ...] = ()

    def searcher(self, problem: Problem) -> Searcher:
        """Ask for the recipes in their order."""
        return Listed(problem.space, self.recipes)

    def fidelities(self) -> Sequence[Fidelity]:
        """Return that of the drawing, for which full precision's side has to be there."""
        return ("full",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=list(IMAGES))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=[*STRATEGIES, *NETWORK])
    parser.add_argument("--trials", nargs="+", type=int, default=[150, 300])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bits", type=float, default=3.5)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    sets = [
        "search.evaluation.fidelity=forward",
        "search.target=SQNR",
        f"search.evaluation.images={IMAGES[options.name]}",
        f"search.evaluation.metrics={[*FULL, 'SQNR']}".replace("'", '"'),
        f'search.constraints=["avg_bits <= {options.bits}"]',
        f"search.engine.workers={options.workers}",
    ]
    for name in NETWORK:
        sets += [f"search.strategies.{name}.strategy=predictor"]
        sets += [f"search.strategies.{name}.scores={name.partition('-')[2]}"]
    session = Session(RunFile.load(f"{options.name}.toml", sets), show=print_step)
    results: dict[str, object] = {"denoiser": options.name, "bits": options.bits, "seeds": options.seeds}
    with opened(session, options.folder, {"chosen": Chosen()}) as ready:
        for trials in options.trials:
            best = {}
            for title in options.strategies:
                for seed in range(options.seeds):
                    best[title, seed] = searched(ready, title, seed, trials)
            drawn = full(ready, list(best.values()))
            rows = {key: {"SQNR": trial.metrics["SQNR"], **drawn[trial_key(trial)]} for key, trial in best.items()}
            show(rows, trials, options.strategies, options.seeds)
            results[str(trials)] = {f"{title} {seed}": row for (title, seed), row in rows.items()}
            write_json(options.folder / "shootout.json", results)
        names = ready.ready.space.options
        uniform = [Trial(dict.fromkeys(ready.ready.space.layers, name)) for name in names]
        drawn = full(ready, uniform)
        heads = ("avg_bits", *FULL)
        cells: list[tuple[str | int | float, ...]] = [
            (name, *(drawn[trial_key(t)][h] for h in heads)) for name, t in zip(names, uniform, strict=True)
        ]
        text_table(TextTable(("one option", *heads), tuple(cells)))
        results["uniform"] = {name: drawn[trial_key(t)] for name, t in zip(names, uniform, strict=True)}
        write_json(options.folder / "shootout.json", results)


def searched(ready: OpenSearch, title: str, seed: int, trials: int) -> Trial:
    """Search once; return the best trial within the constraints."""
    own = ready.problem.folder / "searches" / f"{title}-{seed}-{trials}"
    problem = replace(ready.problem, seed=seed, trials=trials, folder=own, show=lambda step: None)
    done = ready.run(strategy_of(ready.session, title), title, problem)
    inside = [
        trial
        for trial in done.trials
        if trial.state == "complete" and all(b.admits(trial.metrics[b.metric]) for b in problem.constraints)
    ]
    best = max(inside, key=lambda trial: trial.metrics["SQNR"])
    line = f"{title}, seed {seed}, {trials} trials, {done.measured} measured now: {best.metrics['SQNR']:.3f} dB"
    print_step(Step("searched", done.wall, f"{line} at {best.metrics['avg_bits']:.3f} bits"))
    return best


def full(ready: OpenSearch, trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Return the metrics of recipes that are drawn in full."""
    space = ready.ready.space
    recipes = tuple(space.encode(trial.recipe) for trial in trials)
    problem = replace(ready.problem, trials=len(recipes), fidelity="full")
    done = ready.run(Chosen(recipes), "chosen", problem)
    return {trial_key(trial): {h: trial.metrics[h] for h in ("avg_bits", *FULL)} for trial in done.trials}


def trial_key(trial: Trial) -> str:
    return repr(sorted(trial.recipe.items()))


def show(rows: dict[tuple[str, int], dict[str, float]], trials: int, titles: Sequence[str], seeds: int) -> None:
    heads = ("SQNR", "avg_bits", *FULL)
    cells: list[tuple[str | int | float, ...]] = []
    for title in titles:
        line: list[str] = []
        for head in heads:
            values = [rows[title, seed][head] for seed in range(seeds)]
            estimate, wins = mean_of(values), ""
            if "predictor" in titles and title != "predictor" and head != "avg_bits":
                sign = 1 if HIGHER.get(head, True) else -1
                mine = np.array([rows["predictor", seed][head] for seed in range(seeds)])
                wins = f" ({int((sign * (mine - np.array(values)) > 0).sum())}/{seeds})"
            line.append(f"{estimate.value:.4g} ± {estimate.high - estimate.value:.2g}{wins}")
        cells.append((title, *line))
    print(f"\n{trials} trials; (n/{seeds}): in how many seeds the predictor is better")
    text_table(TextTable(("strategy", *heads), tuple(cells)))


if __name__ == "__main__":
    main()
