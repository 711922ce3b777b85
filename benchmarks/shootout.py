"""A fair shoot-out: strategies search on a cheap fidelity within a budget of bits; what each chose is drawn in full.

    python -m benchmarks.shootout digits-dit --folder DIR [--trials 150 300] [--seeds 5] [--bits 3.5]
    python -m benchmarks.shootout digits-dit --calibrated --folder DIR --trials 150 --bits 3.5 3.0 2.6 [--set A.B=C]

All searches share a store in DIR, so that a run which was stopped goes on. Prints, for every budget and number of
trials, the best SQNR of the forward pass that a strategy found, and what its chosen recipes do to images: mean and 95 %
interval over the seeds, and in how many seeds the predictor is better; below that plain options, each for the whole
denoiser. Adds them to DIR/shootout.json.

With --calibrated the run file is the calibrated one, with its options. There are also strategies that no number of
trials changes: `ilp-error-1` is the first recipe of `ilp-error`, and `sensitivity` measures every choice alone once, by
few steps or, `sensitivity-forward`, by the forward pass, and its first recipe is taken. `mixdq` measures every option
of every choice alone by the forward pass, `fisher` and `fisher-diagonal` go by gradients. `predictor-forward` starts
from the trials of `sensitivity-forward`, which count among its own; `predictor-gradients` from `fisher`'s gradients.
"""

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from q2.commands.console import print_step, text_table
from q2.config import RunFile
from q2.files import read_json, write_json
from q2.passes import Step, TextTable
from q2.search.comparison import mean_of
from q2.search.objective.constraints import Constraint
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
PROBING = {
    "sensitivity": ("sensitivity", "few-step"),
    "sensitivity-forward": ("sensitivity", "forward"),
    "mixdq": ("mixdq", "forward"),
}
GRADIENTS = {"fisher": "full", "fisher-diagonal": "diagonal"}
FIXED = ("ilp-error-1", *PROBING, *GRADIENTS)
STARTED = {"predictor-forward": "alone=forward", "predictor-gradients": "gradients=64"}
SEEDED = ("random", "optuna", "evolution", "predictor", *NETWORK, *STARTED)
IMAGES = {"digits-dit": 200, "digits-sdxl": 100, "scenes-sd3": 100}
FULL = ("judge-fid-fp", "judge-fid", "judge-accuracy", "latent-SQNR")
RESULTS = "shootout.json"
HEADS = ("SQNR", "avg_bits", *FULL)
HIGHER = {"judge-fid-fp": False, "judge-fid": False, "judge-accuracy": True, "latent-SQNR": True}


@dataclass(frozen=True)
class Chosen(Strategy):
    """Recipes that are there already, drawn in full."""

    recipes: tuple[Indices, ...] = ()
    few: bool = False

    def searcher(self, problem: Problem) -> Searcher:
        """Ask for the recipes in their order."""
        return Listed(problem.space, self.recipes)

    def fidelities(self) -> Sequence[Fidelity]:
        """Return those for which full precision's side has to be there."""
        return ("full", "few-step") if self.few else ("full",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=list(IMAGES))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--calibrated", action="store_true")
    parser.add_argument(
        "--strategies", nargs="+", default=list(STRATEGIES), choices=[*STRATEGIES, *NETWORK, *FIXED, *STARTED]
    )
    parser.add_argument("--trials", nargs="+", type=int, default=[150, 300])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--bits", nargs="+", type=float, default=[3.5])
    parser.add_argument("--images", type=int, default=0, help="0: 200 of digits-dit, 100 of the others")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    options = parser.parse_args()
    results = earlier(options.folder, {"denoiser": options.name, "seeds": options.seeds})
    with opened(
        session_of(options), options.folder, {"chosen": Chosen(few="sensitivity" in options.strategies)}
    ) as ready:
        for bits, trials in itertools.product(options.bits, options.trials):
            within = replace(ready.problem, constraints=(Constraint.parse(f"avg_bits <= {bits}", ["avg_bits"]),))
            budget = replace(ready, problem=within)
            best: dict[tuple[str, int], Trial] = {}
            for title in options.strategies:
                for seed in range(options.seeds):
                    again = seed and title not in SEEDED
                    best[title, seed] = best[title, 0] if again else searched(budget, title, seed, trials, bits)
            drawn = full(budget, list(best.values()))
            rows = {key: drawn[trial_key(trial)] for key, trial in best.items()}
            show(rows, f"<= {bits} bits, {trials} trials", options.strategies, options.seeds)
            results[f"{bits} bits, {trials} trials"] = {f"{title} {seed}": row for (title, seed), row in rows.items()}
            write_json(options.folder / RESULTS, results)
        if options.calibrated:
            return
        names = ready.ready.space.options
        uniform = [Trial(dict.fromkeys(ready.ready.space.layers, name)) for name in names]
        drawn = full(ready, uniform)
        cells: list[tuple[str | int | float, ...]] = [
            (name, *(drawn[trial_key(t)][h] for h in HEADS)) for name, t in zip(names, uniform, strict=True)
        ]
        text_table(TextTable(("one option", *HEADS), tuple(cells)))
        results["uniform"] = {name: drawn[trial_key(t)] for name, t in zip(names, uniform, strict=True)}
        write_json(options.folder / RESULTS, results)


def earlier(folder: Path, head: dict[str, object]) -> dict[str, object]:
    """Return what earlier runs in the folder found, if they had this head; else the head alone."""
    file = folder / RESULTS
    found = read_json(file) if file.exists() else {}
    return found if {name: found.get(name) for name in head} == head else head


def session_of(options: argparse.Namespace) -> Session:
    sets = [
        "search.evaluation.fidelity=forward",
        "search.target=SQNR",
        f"search.evaluation.images={options.images or IMAGES[options.name]}",
        f"search.evaluation.metrics={[*FULL, 'SQNR']}".replace("'", '"'),
        f'search.constraints=["avg_bits <= {max(options.bits)}"]',
        f"search.engine.workers={options.workers}",
    ]
    for name in NETWORK:
        sets += [f"search.strategies.{name}.strategy=predictor"]
        sets += [f"search.strategies.{name}.scores={name.partition('-')[2]}"]
    for name, (strategy, fidelity) in PROBING.items():
        sets += [f"search.strategies.{name}.strategy={strategy}", f"search.strategies.{name}.fidelity={fidelity}"]
    for name, estimate in GRADIENTS.items():
        sets += [f"search.strategies.{name}.strategy=fisher", f"search.strategies.{name}.estimate={estimate}"]
    for name, start in STARTED.items():
        sets += [f"search.strategies.{name}.strategy=predictor", f"search.strategies.{name}.{start}"]
    sets += ["search.strategies.ilp-error-1.strategy=ilp-error", *options.set]
    file = f"{options.name}-calibrated.toml" if options.calibrated else f"{options.name}.toml"
    return Session(RunFile.load(file, sets), show=print_step)


def searched(ready: OpenSearch, title: str, seed: int, trials: int, bits: float) -> Trial:
    """Search once; return the best trial within the constraints."""
    own = ready.problem.folder / "searches" / f"{title}-{seed}-{trials}-{bits}"
    problem = replace(ready.problem, seed=seed, trials=trials, folder=own, show=lambda step: None)
    if title in FIXED:
        problem = replace(problem, trials=1, fidelity="full" if title in PROBING else "forward")
    done = ready.run(strategy_of(ready.session, title), title, problem)
    inside = [
        trial
        for trial in done.trials
        if trial.state == "complete"
        and trial.fidelity == problem.fidelity
        and all(b.admits(trial.metrics[b.metric]) for b in problem.constraints)
    ]
    best = max(inside, key=lambda trial: trial.metrics["SQNR"])
    line = f"{title}, seed {seed}, {trials} trials, {done.measured} measured now: {best.metrics['SQNR']:.3f} dB"
    print_step(Step("searched", done.wall, f"{line} at {best.metrics['avg_bits']:.3f} bits"))
    return best


def full(ready: OpenSearch, trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Return the metrics of recipes that are drawn in full."""
    space = ready.ready.space
    recipes = tuple({trial_key(trial): space.encode(trial.recipe) for trial in trials}.values())
    problem = replace(ready.problem, trials=len(recipes), fidelity="full")
    done = ready.run(Chosen(recipes), "chosen", problem)
    return {trial_key(trial): {h: trial.metrics[h] for h in HEADS} for trial in done.trials}


def trial_key(trial: Trial) -> str:
    return repr(sorted(trial.recipe.items()))


def show(rows: dict[tuple[str, int], dict[str, float]], what: str, titles: Sequence[str], seeds: int) -> None:
    cells: list[tuple[str | int | float, ...]] = []
    for title in titles:
        line: list[str] = []
        for head in HEADS:
            values = [rows[title, seed][head] for seed in range(seeds)]
            estimate, wins = mean_of(values), ""
            if "predictor" in titles and title != "predictor" and head != "avg_bits":
                sign = 1 if HIGHER.get(head, True) else -1
                mine = np.array([rows["predictor", seed][head] for seed in range(seeds)])
                wins = f" ({int((sign * (mine - np.array(values)) > 0).sum())}/{seeds})"
            line.append(f"{estimate.value:.4g} ± {estimate.high - estimate.value:.2g}{wins}")
        cells.append((title, *line))
    print(f"\n{what}; (n/{seeds}): in how many seeds the predictor is better")
    text_table(TextTable(("strategy", *HEADS), tuple(cells)), limit=None)


if __name__ == "__main__":
    main()
