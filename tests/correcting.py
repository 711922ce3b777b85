"""A plugin file for tests: bias correction, which reads full precision and runs for every recipe."""

__all__ = ["CORRECTING"]

CORRECTING = """
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from q2.graph import Fact
from q2.passes import AnalysisPass, Change, Report, TransformPass
from q2.passes.analysis.stats import STATS
from q2.plugins import hookimpl

MEANS = Fact[dict[str, Any]]("output-means", dict, of="full precision")


def means(graph):
    inputs = {name: each.activation.mean for name, each in graph.facts.get(STATS).items() if each.activation}
    layers = {name: graph.weight_layers[name].module for name in inputs}
    return {name: layer.weight.detach().flatten(1).sum(1) * inputs[name] for name, layer in layers.items()}


@dataclass(frozen=True)
class OutputMeans(AnalysisPass):
    "Mean output of every layer, its bias left aside."

    name: ClassVar[str] = "output-means"
    requires: ClassVar[tuple[str, ...]] = ("stats",)
    provides: ClassVar[tuple[Fact[Any], ...]] = (MEANS,)

    def run(self, graph, ctx):
        graph.facts.set(MEANS, means(graph))
        return Report("means")


@dataclass(frozen=True)
class BiasCorrection(TransformPass):
    "Move into every bias what quantization takes from the mean output."

    name: ClassVar[str] = "bias-correction"
    requires: ClassVar[tuple[str, ...]] = ("quantize", "output-means")
    per_recipe: ClassVar[bool] = True
    strength: float = 1.0

    def run(self, graph, ctx):
        exact, changed = graph.facts.get(MEANS), []
        for name, now in means(graph).items():
            bias = graph.weight_layers[name].module.bias
            if bias is not None:
                with torch.no_grad():
                    bias += self.strength * (exact[name] - now)
                changed.append(name)
        return Change(f"{len(changed)} biases", changed=tuple(changed))


@hookimpl
def q2_passes():
    return {"output-means": OutputMeans, "bias-correction": BiasCorrection}
"""
