"""What all tensors of a model take, in bytes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.passes.analysis.layer_bits import layer_bits
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["ModelBytes", "model_bits"]


@dataclass(frozen=True)
class ModelBytes(AnalysisPass):
    """Bytes of all parameters and buffers in their formats, against what they take at full precision."""

    name: ClassVar[str] = "model-size"

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Report the sizes by op."""
        parts, rest = model_bits(graph, ctx)
        full = sum(full_bits for _, full_bits in parts.values()) + rest
        held = sum(bits for bits, _ in parts.values()) + rest
        rows = [(op, bits / 8, full_bits / 8) for op, (bits, full_bits) in parts.items()]
        rows.append(("buffers, others", rest / 8, rest / 8))
        table = TextTable(("op", "bytes", "at full precision"), tuple(rows))
        data = {"bytes": held / 8, "full_bytes": full / 8}
        return Report(f"{held / 8:,.0f} bytes (full precision: {full / 8:,.0f})", (table,), data)


def model_bits(graph: "Graph", ctx: PassContext) -> tuple[dict[str, tuple[int, int]], int]:
    """Return bits and full-precision bits by op, and the bits of what belongs to no layer."""
    layers = {each.layer: each for each in layer_bits(graph, ctx)}
    parts: dict[str, tuple[int, int]] = {}
    counted: set[int] = set()
    for name, each in layers.items():
        module = graph.model.get_submodule(name)
        own = {id(parameter): parameter for parameter in module.parameters() if id(parameter) not in counted}
        counted |= set(own)
        width = next((parameter.element_size() for parameter in module.parameters()), 4) * 8
        bits, full = parts.get(each.op, (0, 0))
        held = each.weight_bits + each.bias_bits
        parts[each.op] = bits + held, full + (each.weights + each.biases) * width
    tensors = [*graph.model.parameters(), *graph.model.buffers()]
    rest = sum(tensor.numel() * tensor.element_size() * 8 for tensor in tensors if id(tensor) not in counted)
    return parts, rest
