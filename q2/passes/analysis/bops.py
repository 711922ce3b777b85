"""MACs of the traced graph, and the bit operations they cost at the options in place."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from q2.graph import Fact
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, options_in_place
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.quant.kinds import QUANTIZERS
from q2.quant.widths import FULL

if TYPE_CHECKING:
    from q2.graph import Graph
    from q2.passes.transform.activations import ActivationBits

__all__ = ["BOPS", "Bops", "LayerBops"]

NORM_WIDTH, SOFTMAX_WIDTH = 32, 8
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
    b_a and b_softmax are those in place (see `quantize-activations`), 16 without; or all are `activations`, and then
    b_softmax is 16 with 16 and 8 below. `softmax` overrides b_softmax. A norm counts one MAC an element and one more
    for its weight, softmax one a score.
    Source: Qua²SeDiMo (AAAI'25), BOPs.
    """

    name: ClassVar[str] = "bops"
    provides: ClassVar[tuple[Fact[dict[str, LayerBops]], ...]] = (BOPS,)
    activations: Width | None = None
    """Bits of the activations; left out: those in place."""
    softmax: Width | None = None
    """Bits of the softmax's output; left out: those in place, or with `activations` 16 at 16 and 8 below."""

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `BOPS`."""
        from q2.graph.cost import NORM, PRODUCTS

        layers: dict[str, LayerBops] = {}
        inputs = 0
        in_place = _in_place(graph)
        for choice, option in options_in_place(graph):
            width = ctx.plugins.of(QUANTIZERS).load(option.quantizer)().arithmetic_bits(option.bits)
            activation = self.activations or in_place.of(choice)
            bops = choice.macs * width * activation
            inputs += choice.macs * activation
            layers[choice.name] = LayerBops(choice.layer.type, str(option), choice.macs, bops)
        graph.facts.set(BOPS, layers)
        costs = graph.costs()
        others = self._others(graph, in_place)
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
            "activation_bits": inputs / max(sum(entry.macs for entry in layers.values()), 1),
            "others": {kind: {"macs": macs, "bops": cost} for kind, (macs, cost) in others.items()},
            "layers": {name: {"macs": e.macs, "bops": e.bops} for name, e in layers.items()},
        }
        return Report(summary, (_table(layers, others),), data)

    def _others(self, graph: "Graph", in_place: "ActivationBits") -> dict[str, tuple[int, int]]:
        """Return MACs and BOPs of what is no weight layer, by kind."""
        from q2.graph.cost import itemized

        attention = {node: each.name for each in graph.attentions for node in (*each.scores, *each.values)}
        found = dict.fromkeys(graph.costs(), (0, 0))
        for node, kind, macs in itemized(graph.model, list(graph.fx.nodes)):
            bits = self.activations or in_place.attention.get(attention.get(node, ""), FULL)
            softmax = FULL if bits == FULL else SOFTMAX_WIDTH if self.activations else in_place.softmax
            total, bops = found[kind]
            found[kind] = total + macs, bops + macs * _width(kind, bits, self.softmax or softmax)
        return found


def _width(kind: str, bits: int, softmax: int) -> int:
    """Return the product of the widths that a kind of operation multiplies at."""
    from q2.graph.cost import NORM, PRODUCTS, VALUES

    if kind == VALUES:
        return bits * softmax
    if kind in PRODUCTS:
        return bits**2
    return NORM_WIDTH if kind == NORM else FULL


def _in_place(graph: "Graph") -> "ActivationBits":
    """Return the bits that activations are quantized to when the graph runs."""
    from q2.passes.transform.activations import ActivationBits

    rewrite = graph.rewrites.get(QuantizeActivations.name)
    return rewrite if isinstance(rewrite, ActivationBits) else ActivationBits({}, {}, FULL)


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
