"""MACs of the traced graph, and the bit operations they cost at the options in place."""

from dataclasses import dataclass
from typing import ClassVar

from q2.graph import Fact, Graph
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable
from q2.quant import option_of

__all__ = ["BOPS", "Bops", "LayerBops"]

FULL = 16


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
    """MACs and BOPs of the weight layers and of attention, at the example inputs.

    A weight layer costs MACs · b_w · b_a, with b_w = 16 for K-Means options: their weights are looked up and multiplied
    at 16 bits. Attention costs MACs · b_a². Activations are at 16 bits. Norms and activation functions are not counted.
    Source: Qua²SeDiMo (AAAI'25), BOPs; every MAC comes from the traced graph.
    """

    name: ClassVar[str] = "bops"
    provides: ClassVar[tuple[Fact[dict[str, LayerBops]], ...]] = (BOPS,)

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        """Set the fact `BOPS`."""
        layers: dict[str, LayerBops] = {}
        for name, layer in graph.weight_layers.items():
            option, _ = option_of(layer.module)
            width = ctx.plugins.quantizers.load(option.quantizer)().arithmetic_bits(option.bits)
            layers[name] = LayerBops(layer.type, str(option), layer.macs, layer.macs * width * FULL)
        graph.facts.set(BOPS, layers)
        groups: dict[tuple[str, str], list[LayerBops]] = {}
        for entry in layers.values():
            groups.setdefault((entry.type, entry.option), []).append(entry)
        attention = graph.attention_macs
        rows = [
            (kind, option, len(group), sum(e.macs for e in group) / 1e9, sum(e.bops for e in group) / 1e12)
            for (kind, option), group in sorted(groups.items())
        ]
        rows.append(("attention", "–", 0, attention / 1e9, attention * FULL**2 / 1e12))
        bops = sum(entry.bops for entry in layers.values()) + attention * FULL**2
        full = graph.macs * FULL**2
        summary = f"{bops / 1e12:.4g} TBOPs from {graph.macs / 1e9:.4g} GMACs (all at 16 bits: {full / 1e12:.4g} TBOPs)"
        data = {
            "gmacs": graph.macs / 1e9,
            "attention_gmacs": attention / 1e9,
            "tbops": bops / 1e12,
            "full_tbops": full / 1e12,
            "layers": {name: {"macs": e.macs, "bops": e.bops} for name, e in layers.items()},
        }
        return Report(summary, (TextTable(("type", "option", "layers", "GMACs", "TBOPs"), tuple(rows)),), data)
