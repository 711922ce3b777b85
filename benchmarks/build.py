"""How long building a recipe takes, at SDXL's size: 243 units of 6^5 = 7,776 variants, with made-up scores.

Prints machine, seeds, seconds for one budget, two constraints, and a front of budgets: `python benchmarks/build.py`.
"""

import itertools
import platform
import time
from collections.abc import Sequence

import numpy as np

from q2.search.building.knapsack import Group, Knapsack
from q2.search.objective.constraints import Constraint

UNITS, CHOICES, SEEDS = 243, 5, (0, 1, 2)
BITS = np.array([4.3, 4.01, 4.1, 3.2, 3.01, 3.1])
ARITHMETIC = np.array([16.0, 16.0, 4.0, 16.0, 16.0, 3.0])


def groups(seed: int) -> list[Group]:
    """Return units whose scores are minus their error, with a part that is no sum over layers."""
    rng = np.random.default_rng(seed)
    variants = np.array(list(itertools.product(range(len(BITS)), repeat=CHOICES)))
    rows = np.arange(CHOICES)
    weights = rng.integers(10**5, 10**7, (UNITS, CHOICES, 1))
    held = np.round(weights * BITS + rng.integers(0, 1000, (UNITS, CHOICES, len(BITS))))
    found = []
    for i in range(UNITS):
        error = 4.0**-BITS * rng.lognormal(0, 1, (CHOICES, 1)) * rng.lognormal(0, 0.3, (CHOICES, 6)) * weights[i]
        score = -error[rows, variants].sum(1)
        score += 0.3 * score.std() * rng.normal(size=len(score))
        tera = rng.lognormal(0, 1, (CHOICES, 1)) * ARITHMETIC / 1e3
        costs = {"avg_bits": held[i][rows, variants].sum(1) / weights.sum(), "bops": tera[rows, variants].sum(1)}
        found.append(Group(f"unit {i}", score, costs))
    return found


def seconds(knapsack: Knapsack, constraints: Sequence[Constraint]) -> float:
    start = time.perf_counter()
    knapsack.solve(constraints)
    return time.perf_counter() - start


def main() -> None:
    print(f"{platform.machine()}, Python {platform.python_version()}, {UNITS} units of {6**CHOICES:,} variants")
    for seed in SEEDS:
        start = time.perf_counter()
        knapsack = Knapsack(groups(seed))
        print(f"seed {seed}: made in {time.perf_counter() - start:.1f} s")
        for bound in (3.2, 3.5, 3.8):
            print(f"  avg_bits <= {bound}: {seconds(knapsack, [Constraint('avg_bits', '<=', bound)]):.2f} s")
        half = knapsack.least("bops").costs["bops"] * 0.5 + knapsack.solve().costs["bops"] * 0.5
        both = [Constraint("avg_bits", "<=", 3.5), Constraint("bops", "<=", half)]
        print(f"  avg_bits and bops: {seconds(knapsack, both):.2f} s")
        start = time.perf_counter()
        knapsack.front("avg_bits", np.linspace(3.1, 4.0, 10).tolist())
        print(f"  front of 10 budgets: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
