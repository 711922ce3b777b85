"""The choices of a recipe: weight layers; a layer that reads a skip connection has two parts, each with a choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx

from q2.graph.layers import WeightLayer

__all__ = ["Choice", "choices"]


@dataclass(frozen=True)
class Choice:
    """A weight layer, or a part of it: `channels` is the range of input channels, None for all of them.

    The parts of a split layer are named ``path`` and ``path#1``. Source: Qua2SeDiMo, shortcut split.
    """

    name: str
    layer: WeightLayer
    channels: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight, or of the part."""
        rows, inputs, *kernel = self.layer.shape
        return (rows, self.channels[1] - self.channels[0] if self.channels else inputs, *kernel)

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def macs(self) -> int:
        """The choice's share of the layer's multiply-accumulates."""
        return self.layer.macs * self.shape[1] // self.layer.shape[1]


def choices(flow: nx.DiGraph[str], layers: Mapping[str, WeightLayer]) -> dict[str, Choice]:
    """Return the choices by name, in execution order; a layer outside the flow (fed by nothing) is one all the same."""
    parts: dict[str, list[Choice]] = {name: [] for name in layers}
    for name, data in flow.nodes(data=True):
        if data["kind"] == "weight":
            whole = data["channels"] == (0, layers[data["layer"]].in_channels)
            choice = Choice(name, layers[data["layer"]], None if whole else data["channels"])
            parts[data["layer"]].append(choice)
    return {choice.name: choice for name in layers for choice in parts[name] or [Choice(name, layers[name])]}
