"""How often the metrics' intervals cover the truth: simulated draws whose truth is known, or is the mean of all draws.

    python benchmarks/covered.py [--draws 2000]

Prints a Markdown table: the share of draws whose interval covers the truth, and the intervals' mean half-width over
1.96 standard deviations of the values. Classes, timesteps and references are fixed, and the noise is drawn anew.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from q2.denoisers.comparison import accuracies
from q2.search.metrics.base import Array, Outputs
from q2.search.metrics.frechet import frechet_estimate, frechet_paired, moments
from q2.search.metrics.intervals import Estimate, Labels, mean_estimate, share_estimate
from q2.search.metrics.kernel import cmmd_estimate, kid_estimate
from q2.search.metrics.outputs import Sqnr
from q2.search.metrics.rank import spearman_estimate

CLASSES = 10
Rng = np.random.Generator
Case = tuple[str, Callable[[Rng], Estimate], float | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    sets = (Sets(200, 8), Sets(200, 8, rectified=False), Sets(100, 64), Sets(200, 64), Sets(100, 256))
    distances = [case for each in sets for case in each.cases()]
    cases = (*means(), *forward(), *shares(), *differences(), *ranks(), *distances)
    print("| interval of | covered | half-width / 1.96 sd |\n| --- | --- | --- |")
    for name, draw, truth in cases:
        rng = np.random.default_rng(0)
        found = [draw(rng) for _ in range(draws)]
        values = np.array([estimate.value for estimate in found])
        wanted = values.mean() if truth is None else truth
        covered = np.mean([estimate.low <= wanted <= estimate.high for estimate in found])
        half = np.mean([(estimate.high - estimate.low) / 2 for estimate in found])
        print(f"| {name} | {covered:.1%} | {half / (1.96 * values.std(ddof=1)):.2f} |", flush=True)


def means() -> Iterator[Case]:
    fixed = np.random.default_rng(1)
    level, noise = 3 * fixed.normal(size=CLASSES), fixed.uniform(0.3, 1.7, CLASSES)
    for count in (20, 60, 200):
        labels = np.arange(count) % CLASSES

        def draw(rng: Rng, labels: Labels = labels) -> Estimate:
            return mean_estimate(level[labels] + noise[labels] * rng.normal(size=len(labels)), labels)

        yield f"a mean of {count} images of 10 unlike classes", draw, float(level.mean())
    yield "a mean of 8 images", lambda rng: mean_estimate(rng.normal(size=8)), 0.0
    yield "a mean of 100 images, skewed (exponential)", lambda rng: mean_estimate(rng.exponential(size=100)), 1.0


def forward() -> Iterator[Case]:
    for size in (8, 40):
        images, steps = np.tile(np.arange(size), 4), np.repeat([0.0, 2.0, 4.0, 8.0], size)

        def draw(rng: Rng, images: Labels = images, steps: Array = steps) -> Estimate:
            decibel = 10 + steps + rng.normal(size=images.max() + 1)[images] + 0.2 * rng.normal(size=len(images))
            full = np.ones((len(images), 1))
            made = full * (1 + 10 ** (-decibel / 20))[:, None]
            outputs = Outputs(made, full, np.ones(4), images, images % CLASSES)
            return Sqnr.value(object.__new__(Sqnr), outputs)

        yield f"SQNR of {size} images in 4 steps", draw, 13.5


def shares() -> Iterator[Case]:
    for count in (100, 200, 500):
        for share in (0.5, 0.8, 0.9, 0.95, 0.99):

            def draw(rng: Rng, count: int = count, share: float = share) -> Estimate:
                return share_estimate(rng.random(count) < share)

            yield f"a share of {share} of {count}", draw, share


def differences() -> Iterator[Case]:
    for count in (20, 100, 200, 500):
        for lost, gained in ((0.005, 0.005), (0.02, 0.01), (0.05, 0.0), (0.05, 0.02), (0.2, 0.1)):

            def draw(rng: Rng, count: int = count, lost: float = lost, gained: float = gained) -> Estimate:
                drawn = torch.from_numpy(rng.random(count))
                full, quantized = drawn < 0.95 - gained, (drawn >= lost) & (drawn < 0.95)
                found = accuracies(full, quantized)
                return Estimate(found.loss, found.low, found.high)

            yield f"a difference of shares, {lost} lost and {gained} gained of {count}", draw, lost - gained


@dataclass(frozen=True, eq=False)
class Sets:
    """Features (N, D) of ten classes with centres of their own; rectified as networks' are, or Gaussian."""

    count: int
    width: int
    rectified: bool = True

    def draw(self, rng: Rng, scale: float) -> Array:
        """Return features whose noise within classes has a scale; the reference's is 1."""
        fixed = np.random.default_rng(2)
        centres = fixed.normal(size=(CLASSES, self.width))
        mix = fixed.normal(size=(self.width, self.width)) / np.sqrt(self.width)
        rows = (centres[self.labels] + scale * rng.normal(size=(self.count, self.width))) @ mix
        return np.asarray(np.maximum(rows, 0) if self.rectified else rows)

    @property
    def labels(self) -> Labels:
        """The classes, in turn."""
        return np.arange(self.count) % CLASSES

    def cases(self) -> Iterator[Case]:
        """Yield every distance, to features of the same kind and of another."""
        rng = np.random.default_rng(3)
        real = np.concatenate([self.draw(rng, 1.0) for _ in range(2000 // self.count)])
        mean, covariance = moments(real)
        what = f"{self.count} images, {self.width} {'' if self.rectified else 'Gaussian '}features"

        def far(scale: float, rng: Rng) -> Estimate:
            return frechet_estimate(self.draw(rng, scale), mean, covariance, self.labels)

        def pair(scale: float, rng: Rng) -> Estimate:
            full = self.draw(rng, 1.0)
            made = full + scale * rng.normal(size=full.shape)
            return frechet_paired(np.maximum(made, 0) if self.rectified else made, full, self.labels)

        def kernel(scale: float, rng: Rng) -> Estimate:
            return kid_estimate(self.draw(rng, scale), real[:400], self.labels)

        def unit(scale: float, rng: Rng) -> Estimate:
            return cmmd_estimate(self.draw(rng, scale) + scale - 1, real[:400], self.labels)

        for kind, scale in (("the same kind", 1.0), ("another kind", 1.5)):
            yield f"a Fréchet distance, {what}, {kind}", partial(far, scale), None
            yield f"a Fréchet distance of pairs, {what}, noise {scale - 0.7:.1f}", partial(pair, scale - 0.7), None
            yield f"KID, {what}, {kind}", partial(kernel, scale), None
            yield f"CMMD, {what}, {kind}", partial(unit, scale), None


def ranks() -> Iterator[Case]:
    for count in (10, 20, 60):
        for rho in (0.0, 0.5, 0.9, 0.98):

            def draw(rng: Rng, count: int = count, rho: float = rho) -> Estimate:
                x = rng.normal(size=count)
                return spearman_estimate(x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=count))

            yield f"a rank correlation of {rho}, {count} pairs", draw, float(6 / np.pi * np.arcsin(rho / 2))


if __name__ == "__main__":
    main()
