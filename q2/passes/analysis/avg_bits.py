"""Average bits of weights, activations and biases, as they really are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from q2.graph import Fact
from q2.passes.analysis.layer_bits import LayerBits, layer_bits
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["BITS", "AvgBits", "averages"]

BITS = Fact[list[LayerBits]]("bits", list)


@dataclass(frozen=True)
class AvgBits(AnalysisPass):
    """Average bits of a weight, of a bias and of an activation that is read, over the weight layers.

    A number in fixed point of width 8 takes 8 bits, wherever its point is; shared exponents, codebooks, scales and zero
    points count. Norms and other layers with parameters are listed, and not averaged.
    """

    name: ClassVar[str] = "avg-bits"
    provides: ClassVar[tuple[Fact[Any], ...]] = (BITS,)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `BITS`."""
        found = layer_bits(graph, ctx)
        graph.facts.set(BITS, found)
        data = averages([each for each in found if each.layer in graph.weight_layers])
        rows = tuple((each.node, each.op, each.weights, *(_each(*pair) for pair in _pairs(each))) for each in found)
        table = TextTable(("node", "op", "weights", "bits/weight", "bits/bias", "bits/activation"), rows)
        summary = (
            f"{data['w_avg_bit']:.4g} bits a weight, {data['b_avg_bit']:.4g} a bias, {data['in_avg_bit']:.4g} an input"
        )
        return Report(summary, (table,), data)


def averages(layers: list[LayerBits]) -> dict[str, float]:
    """Return averages and totals in bits: ``w`` of weights, ``b`` of biases, ``in`` of inputs; a layer counts once."""
    once = list({each.layer: each for each in layers}.values())
    weights, biases, inputs = (sum(getattr(e, n) for e in once) for n in ("weights", "biases", "inputs"))
    total = {n: sum(getattr(e, f"{n}_bits") for e in once) for n in ("weight", "bias", "input")}
    return {
        "w_avg_bit": total["weight"] / max(weights, 1),
        "b_avg_bit": total["bias"] / max(biases, 1),
        "in_avg_bit": total["input"] / max(inputs, 1),
        "w_overall_bit": total["weight"],
        "b_overall_bit": total["bias"],
        "in_overall_bit": total["input"],
    }


def _pairs(each: LayerBits) -> tuple[tuple[int, int], ...]:
    return (each.weight_bits, each.weights), (each.bias_bits, each.biases), (each.input_bits, each.inputs)


def _each(bits: int, count: int) -> str | float:
    return bits / count if count else "–"
