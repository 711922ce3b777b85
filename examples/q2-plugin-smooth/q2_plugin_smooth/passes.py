"""The pass `smooth`: scales input channels of Linears before quantization, and undoes it in the layers before them."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from q2.errors import ConfigError, Q2Error
from q2.graph import Graph
from q2.passes import Change, PassContext, TextTable, TransformPass, at_layer
from q2.passes.watching import Seen
from q2.quant.simulated import Quantized
from q2_plugin_smooth.sites import Site, find_sites, multiply_columns

__all__ = ["Smooth"]


@dataclass(frozen=True)
class Smooth(TransformPass):
    """Multiply each input channel of a Linear's weight by s, and divide the input by s in the layer before it.

    The model computes the same; quantized afterwards, channels with large inputs keep more of their weights' digits.
    s = a^`activations` / w^`weights`, where a is the root mean square of a channel's inputs while `images` images are
    denoised in `steps` steps (0: the protocol's), and w the largest weight that reads it; s is 1 on geometric average
    and at most `limit` away from that, as a factor. Weights alone profit from `weights` = 0 (AWQ, Lin et al.,
    MLSys'24, section 3.2); 0.5 for both, with activations quantized too, is SmoothQuant (Xiao et al., ICML'23, eq. 4).

    The division is folded into AdaLN-Zero's modulation, a norm's weights, or the values of an attention: nothing is
    added to the model. Layers behind anything else stay. Put the pass before `quantize`. Its weights are no longer
    those of the checkpoint, so it suits a transform and an evaluation; a search with a bank refuses it.
    """

    name: ClassVar[str] = "smooth"
    needs_weights: ClassVar[bool] = True
    activations: float = 0.5
    weights: float = 0.0
    limit: float = 16.0
    images: int = 8
    steps: int = 0

    def check(self, graph: Graph, ctx: PassContext) -> None:
        """Raise `ConfigError` for exponents outside 0 to 1, and for numbers that make no sense."""
        for key in ("activations", "weights"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(f"{key}: expected an exponent from 0 to 1, not {getattr(self, key)}")
        for key, least in (("limit", 1), ("images", 1), ("steps", 0)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: expected at least {least}, not {getattr(self, key)}")

    def run(self, graph: Graph, ctx: PassContext) -> Change:
        """Scale what can be scaled. Raises `Q2Error` for layers that are quantized already."""
        sites = self._sites(graph)
        seen: dict[str, _Squares] = {}
        observers = {site.readers[0]: partial(_watch, seen) for site in sites}
        if observers:
            ctx.watch(graph, observers, images=self.images, steps=self.steps)
        rows: list[tuple[str, str, float, float]] = []
        for site in (each for each in sites if each.readers[0] in seen):
            with at_layer(site.readers[0]), torch.no_grad():
                scale = self._scale(graph, site, seen[site.readers[0]].rms)
                for reader in site.readers:
                    multiply_columns(graph.model.get_submodule(reader), scale)
                site.divide(scale)
            rows.append((", ".join(site.readers), site.before, float(scale.min()), float(scale.max())))
        graph.recompile()
        names = tuple(dict.fromkeys(name for site in sites for name in (*site.readers, site.before)))
        count = sum(len(site.readers) for site in sites)
        heads = ("layers", "divided in", "least scale", "greatest")
        data = {"layers": count, "scales": {each[0]: [each[2], each[3]] for each in rows}}
        summary = f"{count} of {len(graph.weight_layers)} layers scaled"
        return Change(summary, (TextTable(heads, tuple(rows)),), data, names)

    def _sites(self, graph: Graph) -> list[Site]:
        """Return the sites whose layers the graph runs."""
        sites = []
        for site in find_sites(graph.model):
            if not all(reader in graph.weight_layers for reader in site.readers):
                continue
            for name in (*site.readers, site.before):
                if isinstance(graph.model.get_submodule(name), Quantized):
                    raise Q2Error(f"{name} is quantized already; put 'smooth' before 'quantize'")
            sites.append(site)
        return sites

    def _scale(self, graph: Graph, site: Site, rms: Tensor) -> Tensor:
        """Return s (I,), float64."""
        weights = [graph.model.get_submodule(reader).get_parameter("weight") for reader in site.readers]
        largest = torch.cat([weight.detach().double() for weight in weights]).abs().amax(0)
        rms = rms.to(largest.device)
        known = (rms > 0) & (largest > 0)
        scale = torch.where(known, rms, 1) ** self.activations / torch.where(known, largest, 1) ** self.weights
        middle = scale[known].log().mean().exp() if known.any() else torch.ones(())
        return torch.where(known, scale / middle, 1).clamp(1 / self.limit, self.limit)


class _Squares:
    """The sum of squares of every input channel, float64."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        self.count = 0

    def add(self, rows: Tensor) -> None:
        """Take in rows (..., I)."""
        squares = rows.detach().double().flatten(0, -2).square()
        self.sums = squares.sum(0) if self.sums is None else self.sums + squares.sum(0)
        self.count += len(squares)

    @property
    def rms(self) -> Tensor:
        """The root mean square of every channel (I,)."""
        assert self.sums is not None
        return (self.sums / self.count).sqrt()


def _watch(squares: dict[str, _Squares], seen: Seen) -> None:
    squares.setdefault(seen.name, _Squares()).add(seen.input)
