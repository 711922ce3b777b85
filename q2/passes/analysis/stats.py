"""Statistics of weights, and of activations on real denoising steps."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from q2.graph import Fact
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, select, weight_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from q2.graph import Graph

__all__ = ["STATS", "LayerStats", "Moments", "RunningMoments", "Stats"]


@dataclass(frozen=True)
class Moments:
    """The distribution of one tensor, or of all values that one input took."""

    minimum: float
    maximum: float
    mean: float
    std: float
    abs_mean: float
    kurtosis: float

    @property
    def abs_max(self) -> float:
        """The largest magnitude."""
        return max(abs(self.minimum), abs(self.maximum))


@dataclass(frozen=True)
class LayerStats:
    """A weight layer's weight, and its input over all denoising steps if the pass could run them."""

    weight: Moments
    activation: Moments | None


STATS = Fact[dict[str, LayerStats]]("stats", dict, of="full precision")


@dataclass(frozen=True)
class Stats(AnalysisPass):
    """Range, mean, spread and kurtosis of every weight layer's weight and input.

    Inputs are those of `samples` images denoised in `steps` real steps (0: as the denoiser's protocol says). The fact
    is about full precision: behind a transform the pass reports what is there then, and the fact stays what it is.
    """

    name: ClassVar[str] = "stats"
    needs_weights: ClassVar[bool] = True
    provides: ClassVar[tuple[Fact[dict[str, LayerStats]], ...]] = (STATS,)
    layers: str = "*"
    """A shell-style pattern: which weight layers are looked at."""
    samples: int = 8
    """How many images are denoised to see activations; 0: weights alone are looked at."""
    steps: int = 0
    """Their denoising steps; 0: as the denoiser's protocol says."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` if `layers` matches nothing."""
        select(graph.weight_layers, self.layers)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `STATS`, before the first transform."""
        names = select(graph.weight_layers, self.layers)
        inputs = {name: RunningMoments() for name in names}
        steps = 0
        if self.samples > 0:
            denoiser = ctx.need_denoiser("stats over denoising steps (samples > 0)")
            steps = self.steps or denoiser.protocol.steps
            with _watched(graph, inputs), graph.installed():
                denoiser.generate(self.samples, seed=ctx.seed, steps=steps, progress=ctx.progress)
        stats = {}
        for name in names:
            weight = RunningMoments()
            weight.add(weight_of(graph.weight_layers[name].module))
            stats[name] = LayerStats(weight.moments(), inputs[name].moments() if inputs[name].count else None)
        graph.facts.set(STATS, stats)
        return _report(stats, self.samples, steps)


class RunningMoments:
    """Range, mean, spread and kurtosis of all values added, from running sums of powers in float64."""

    def __init__(self) -> None:
        self.count, self.minimum, self.maximum, self.abs = 0, math.inf, -math.inf, 0.0
        self.powers = [0.0] * 4

    def add(self, values: "Tensor") -> None:
        """Add the values of a tensor of any shape."""
        flat = values.detach().reshape(-1).double()
        self.count += flat.numel()
        self.minimum, self.maximum = min(self.minimum, float(flat.min())), max(self.maximum, float(flat.max()))
        self.abs += float(flat.abs().sum())
        power = flat
        for i in range(4):
            self.powers[i] += float(power.sum())
            power = power * flat

    def moments(self) -> Moments:
        """Return the moments of all values added; there must be at least one."""
        m1, m2, m3, m4 = (power / self.count for power in self.powers)
        variance = max(m2 - m1**2, 0.0)
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        kurtosis = fourth / variance**2 if variance > 0 else 0.0
        return Moments(self.minimum, self.maximum, m1, math.sqrt(variance), self.abs / self.count, kurtosis)


@contextmanager
def _watched(graph: "Graph", inputs: Mapping[str, RunningMoments]) -> Iterator[None]:
    import torch

    def watch(sums: RunningMoments) -> "object":
        def hook(module: "nn.Module", args: tuple[object, ...]) -> None:
            if args and isinstance(args[0], torch.Tensor):
                sums.add(args[0])

        return hook

    with ExitStack() as stack:
        for name, sums in inputs.items():
            handle = graph.weight_layers[name].module.register_forward_pre_hook(watch(sums))  # type: ignore[arg-type]
            stack.callback(handle.remove)
        with torch.no_grad():
            yield


def _report(stats: Mapping[str, LayerStats], samples: int, steps: int) -> Report:
    heads = ("layer", "|w| max", "w std", "w kurtosis", "|x| max", "x mean", "x std", "x kurtosis")
    rows: list[tuple[str | float, ...]] = []
    for name, layer in stats.items():
        w, x = layer.weight, layer.activation
        acts: tuple[str | float, ...] = (x.abs_max, x.mean, x.std, x.kurtosis) if x else ("–",) * 4
        rows.append((name, w.abs_max, w.std, w.kurtosis, *acts))
    widest = max(stats, key=lambda name: a.abs_max if (a := stats[name].activation) else stats[name].weight.abs_max)
    moments = stats[widest].activation or stats[widest].weight
    what = "activation" if stats[widest].activation else "weight"
    letter = "x" if stats[widest].activation else "w"
    took = f"{samples} images, {steps} denoising steps, " if samples else ""
    summary = f"{took}widest {what}: {widest} (|{letter}| ≤ {moments.abs_max:.4g})"
    data = {
        "samples": samples,
        "steps": steps,
        "layers": {
            name: {"weight": _plain(layer.weight), "activation": _plain(layer.activation)}
            for name, layer in stats.items()
        },
    }
    return Report(summary, (TextTable(heads, tuple(rows)),), data)


def _plain(moments: Moments | None) -> dict[str, float] | None:
    return {entry.name: getattr(moments, entry.name) for entry in fields(moments)} if moments else None
