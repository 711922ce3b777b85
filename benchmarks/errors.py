"""What summed errors say of images, and what trials add to them: random recipes, few of them learnt from.

    python -m benchmarks.errors digits-dit --folder DIR [--recipes 300] [--images 32] [--set bank.path=BANK]
    python -m benchmarks.errors digits-dit --folder DIR --fidelity forward [--set search.evaluation.inputs=32]

Draws random recipes of calibrated options in full, or measures the denoiser's outputs alone, and keeps the trials in
DIR, so that a run which was stopped goes on. Prints Spearman's correlation of latent SQNR, or of the outputs' SQNR,
with the summed errors, which take no trial, and with the additive fit of some of the trials, tested on the others: mean
and deviation over draws of these. The fit has output errors, weights' errors or none as features.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from q2.commands.console import print_step
from q2.config import RunFile
from q2.quant import Option
from q2.quant.bank import Bank
from q2.search.metrics.rank import spearman, spearman_estimate
from q2.search.predictor.additive import fit_additive
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.space import NodeSpace
from q2.search.space import Space
from q2.search.strategies.random import Random
from q2.session.search import OpenSearch, opened
from q2.session.session import Session

METRICS = {"forward": "SQNR", "full": "latent-SQNR"}
TRIALS, DRAWS = (10, 25, 50, 150), 20
Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=("digits-dit", "digits-sdxl"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--recipes", type=int, default=300)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--fidelity", choices=("forward", "full"), default="full")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    options = parser.parse_args()
    sets = [
        "bank.calibrated=true",
        f"search.target={METRICS[options.fidelity]}",
        f"search.evaluation.fidelity={options.fidelity}",
        "search.evaluation.metrics=[]",
        f"search.evaluation.images={options.images}",
        f"search.trials={options.recipes}",
        f"search.engine.workers={options.workers}",
        *options.set,
    ]
    session = Session(RunFile.load(f"{options.name}.toml", sets), show=print_step)
    strategy = Random()
    with opened(session, options.folder, {"random": strategy}) as ready:
        done = ready.run(strategy, "random", ready.problem)
        trials = [trial for trial in done.trials if trial.state == "complete"]
        recipes = [trial.recipe for trial in trials]
        y = np.array([trial.metrics[METRICS[options.fidelity]] for trial in trials])
        what = f"{options.images} images" if options.fidelity == "full" else "outputs of forward passes"
        print(f"\n{options.name}: {len(y)} recipes, {what}, {y.min():.1f} to {y.max():.1f} dB\n")
        show(("summed over layers, no trial", "Spearman", "95 % interval"), sums(ready, recipes, y))
        counts = (*(f"{count} trials" for count in counts_of(len(y))), f"{len(y)}, each left out")
        heads = ("features of the additive fit", *counts)
        show(heads, learnt(ready, recipes, y, options.draws))


def tables_of(ready: OpenSearch) -> dict[str, Array]:
    """Return what every option of every choice adds to sums of errors (choices, options)."""
    costs, bank = ready.ready.costs, ready.ready.ctx.bank
    assert bank is not None
    output, signal = costs.tables["output_error"], signals(bank, ready.ready.space)[:, None]
    relative = np.divide(output, signal, out=np.zeros_like(output), where=signal > 0)
    return {
        "bits": costs.tables["avg_bits"],
        "weights' errors, |x - x'|^2.4": costs.tables["quantized_error"],
        "output errors": output,
        "output errors, relative to the outputs": relative,
        "roots of output errors": np.sqrt(output),
        "roots of relative output errors": np.sqrt(relative),
    }


def signals(bank: Bank, space: Space) -> Array:
    """Return the outputs' own sum of squares (choices,), by any option of the bank."""
    option = Option.parse(bank.plan.options[0])
    fits = [[bank.fitted(layer, option) for layer in choice.layers] for choice in space.choices]
    return np.array([sum(fit.outputs.signal for fit in row if fit and fit.outputs) for row in fits])


def sums(ready: OpenSearch, recipes: Sequence[Mapping[str, str]], y: Array) -> list[list[str]]:
    """Return Spearman's correlation of less error with more of `y` (recipes,), for every kind of sum."""
    space, rows = ready.ready.space, []
    chosen = np.array([space.places(space.encode(recipe)) for recipe in recipes])
    for name, table in tables_of(ready).items():
        score = table[np.arange(len(space)), chosen].sum(1) * (1 if name == "bits" else -1)
        found = spearman_estimate(score, y)
        rows.append([name, f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}"])
    return rows


def learnt(ready: OpenSearch, recipes: Sequence[Mapping[str, str]], y: Array, draws: int) -> list[list[str]]:
    """Return how well fits of some of the trials rank the others, for every kind of features."""
    costs = ready.ready.costs
    output = Bridge.of(ready.problem.graph, ready.ready.space, costs)
    kept = {name: table for name, table in costs.tables.items() if name != "output_error"}
    weights = Bridge.of(ready.problem.graph, ready.ready.space, replace(costs, tables=kept))
    chosen = output.encode(recipes)
    kinds = {"options, output errors": output.space, "options, weights' errors": weights.space}
    kinds["options alone"] = replace(output.space, errors=None)
    return [[name, *ranked(space, chosen, y, draws)] for name, space in kinds.items()]


def ranked(space: NodeSpace, chosen: Indices, y: Array, draws: int) -> list[str]:
    cells = []
    for count in counts_of(len(y)):
        found = []
        for draw in range(draws):
            order = np.random.default_rng([count, draw]).permutation(len(y))
            some, others = order[:count], order[count:]
            found.append(spearman(fit_additive(space, chosen[some], y[some]).predict(chosen[others]), y[others]))
        cells.append(f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}")
    return [*cells, f"{spearman(fit_additive(space, chosen, y).left_out, y):.3f}"]


def counts_of(trials: int) -> list[int]:
    """Return numbers of trials to learn from that leave some to test with."""
    return [count for count in TRIALS if count + 30 <= trials]


def show(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)) + "\n")


if __name__ == "__main__":
    main()
