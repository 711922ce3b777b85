"""FLOPs and bit operations of every node."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from q2.graph import Fact
from q2.passes.analysis.layer_bits import layer_bits
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["FLOPS", "Flops", "NodeFlops", "node_flops"]

_FLOAT = 32


@dataclass(frozen=True)
class NodeFlops:
    """A node's multiply-accumulates, and the bits of what is multiplied; `counted` by torch's FlopCounterMode too."""

    node: str
    op: str
    macs: int
    weight_bits: float
    input_bits: float
    counted: bool

    @property
    def bitops(self) -> float:
        """Multiply-accumulates times both widths."""
        return self.macs * self.weight_bits * self.input_bits


FLOPS = Fact[list[NodeFlops]]("flops", list)


@dataclass(frozen=True)
class Flops(AnalysisPass):
    """Multiply-accumulates (MASE's FLOPs) and BitOPs, MACs · b_w · b_a, of every node that multiplies, for one sample.

    Layers and products between activations are what torch's FlopCounterMode counts, which counts two for each. Norms
    (one MAC an element, one more with weights) and softmax come besides. What is not quantized has its dtype's bits.
    """

    name: ClassVar[str] = "flops"
    provides: ClassVar[tuple[Fact[Any], ...]] = (FLOPS,)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `FLOPS`: counts for the example inputs as a whole."""
        found = node_flops(graph, ctx)
        graph.facts.set(FLOPS, found)
        batch = batch_of(graph) if ctx.model is not None else 1
        rows = tuple(
            (each.node, each.op, each.macs / batch, each.weight_bits, each.input_bits, each.bitops / batch)
            for each in found
        )
        counted = sum(each.macs for each in found if each.counted)
        others = sum(each.macs for each in found if not each.counted)
        bitops = sum(each.bitops for each in found if each.counted)
        data = {
            "batch": batch,
            "flops": counted / batch,
            "other_flops": others / batch,
            "bitops": bitops / batch,
            "other_bitops": sum(each.bitops for each in found if not each.counted) / batch,
        }
        table = TextTable(("node", "op", "FLOPs", "weight bits", "input bits", "BitOPs"), rows)
        summary = f"{data['flops']:.6g} FLOPs, {data['bitops']:.6g} BitOPs in layers and products"
        return Report(f"{summary}; norms and softmax: {data['other_flops']:.6g} FLOPs", (table,), data)


def node_flops(graph: "Graph", ctx: PassContext) -> list[NodeFlops]:
    """Return what every node of the graph multiplies, in its order, for the example inputs."""
    from q2.graph.cost import NORM, PRODUCTS, itemized
    from q2.graph.layers import Geometry, layer_macs
    from q2.graph.naming import node_op

    widths = {each.node: each for each in layer_bits(graph, ctx)}
    costs: dict[str, list[tuple[str, int]]] = {}
    for node, kind, macs in itemized(graph.model, list(graph.fx.nodes)):
        costs.setdefault(node.name, []).append((kind, macs))
    found = []
    for node in graph.fx.nodes:
        op, width = node_op(graph.model, node), widths.get(node.name)
        weight, data_in = (width.weight_width, width.input_width) if width else (_FLOAT, _FLOAT)
        geometry = Geometry.of(graph.model.get_submodule(str(node.target))) if node.op == "call_module" else None
        if geometry is not None:
            found.append(NodeFlops(node.name, op, layer_macs(node, geometry), weight, data_in, counted=True))
        elif op in _LAYER_FUNCTIONS:
            found.append(NodeFlops(node.name, op, _function_macs(node), _FLOAT, _FLOAT, counted=True))
        for kind, macs in costs.get(node.name, ()):
            one = weight if kind == NORM else _FLOAT
            found.append(NodeFlops(node.name, op if kind == NORM else kind, macs, one, data_in, kind in PRODUCTS))
    return [each for each in found if each.macs]


_LAYER_FUNCTIONS = ("linear", "conv1d", "conv2d", "conv3d")


def _function_macs(node: Any) -> int:
    """Count a functional layer, ``F.linear(x, weight)``: every output element is a dot product with a weight's row."""
    weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
    shape = weight.meta["val"].shape
    return int(node.meta["val"].numel() * shape[1:].numel())


def batch_of(graph: "Graph") -> int:
    """Return the size of the first dim of the first input."""
    import torch

    first = next((node.meta.get("val") for node in graph.fx.nodes if node.op == "placeholder"), None)
    return int(first.shape[0]) if isinstance(first, torch.Tensor) and first.ndim and first.shape[0] else 1
