"""MACs of the traced graph, and the bit operations they cost at the options in place."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from q2.graph import Fact, Graph
from q2.graph.cost import NORM, PRODUCTS, VALUES
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, options_in_place

__all__ = ["BOPS", "Bops", "LayerBops"]

FULL, NORM_WIDTH, SOFTMAX_WIDTH = 16, 32, 8
Width = Annotated[int, Field(ge=2, le=16)]


@dataclass(frozen=True)
class LayerBops:
    """A weight layer's multiply-accumulates and bit operations for one call of the denoiser at batch 1."""

    type: str
    option: str
    macs: int
    bops: int


BOPS = Fact[dict[str, LayerBops]]("bops", dict)


@dataclass(frozen=True)
class Bops(AnalysisPass):
    """MACs and BOPs of the whole denoiser at the example inputs, every one from the traced graph.

    A weight layer costs MACs · b_w · b_a, with b_w = 16 for K-Means options: their weights are looked up and multiplied
    at 16 bits. Q·Kᵀ costs MACs · b_a², softmax·V MACs · b_a · b_softmax, a norm MACs · 32, softmax itself MACs · 16.
    `activations` is b_a; b_softmax is 16 with it and 8 below, unless `softmax` says otherwise. A norm counts one MAC an
    element and one more for its weight, softmax one a score.
    Source: Qua²SeDiMo (AAAI'25), BOPs.
    """

    name: ClassVar[str] = "bops"
    provides: ClassVar[tuple[Fact[dict[str, LayerBops]], ...]] = (BOPS,)
    activations: Width = FULL
    softmax: Width | None = None

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        """Set the fact `BOPS`."""
        layers: dict[str, LayerBops] = {}
        for choice, option in options_in_place(graph):
            width = ctx.plugins.quantizers.load(option.quantizer)().arithmetic_bits(option.bits)
            bops = choice.macs * width * self.activations
            layers[choice.name] = LayerBops(choice.layer.type, str(option), choice.macs, bops)
        graph.facts.set(BOPS, layers)
        costs = graph.costs()
        others = {kind: (macs, macs * self._width(kind)) for kind, macs in costs.items()}
        bops = sum(entry.bops for entry in layers.values()) + sum(cost for _, cost in others.values())
        products = sum(costs[kind] for kind in PRODUCTS)
        rest = sum(
            macs * (NORM_WIDTH if kind == NORM else FULL) for kind, macs in costs.items() if kind not in PRODUCTS
        )
        full = graph.macs * FULL**2 + rest
        summary = f"{bops / 1e12:.4g} TBOPs from {graph.macs / 1e9:.4g} GMACs (all at 16 bits: {full / 1e12:.4g} TBOPs)"
        data = {
            "gmacs": graph.macs / 1e9,
            "attention_gmacs": products / 1e9,
            "tbops": bops / 1e12,
            "full_tbops": full / 1e12,
            "activation_bits": self.activations,
            "others": {kind: {"macs": macs, "bops": cost} for kind, (macs, cost) in others.items()},
            "layers": {name: {"macs": e.macs, "bops": e.bops} for name, e in layers.items()},
        }
        return Report(summary, (_table(layers, others),), data)

    def _width(self, kind: str) -> int:
        """Return the product of the widths that a kind of operation multiplies at."""
        if kind == VALUES:
            return self.activations * (self.softmax or (FULL if self.activations == FULL else SOFTMAX_WIDTH))
        if kind in PRODUCTS:
            return self.activations**2
        return NORM_WIDTH if kind == NORM else FULL


def _table(layers: dict[str, LayerBops], others: dict[str, tuple[int, int]]) -> TextTable:
    groups: dict[tuple[str, str], list[LayerBops]] = {}
    for entry in layers.values():
        groups.setdefault((entry.type, entry.option), []).append(entry)
    rows: list[tuple[str | int | float, ...]] = [
        (kind, option, len(group), sum(e.macs for e in group) / 1e9, sum(e.bops for e in group) / 1e12)
        for (kind, option), group in sorted(groups.items())
    ]
    rows += [(kind, "–", 0, macs / 1e9, cost / 1e12) for kind, (macs, cost) in others.items() if macs]
    return TextTable(("type", "option", "layers", "GMACs", "TBOPs"), tuple(rows))
