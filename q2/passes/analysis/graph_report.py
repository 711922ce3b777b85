"""The graph as text: what fx prints, how many nodes of each kind, and the layers."""

import weakref
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from q2.graph import Fact
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable

if TYPE_CHECKING:
    from torch import nn

    from q2.graph import Graph

__all__ = ["FX_OPS", "ORIGINALS", "GraphReport", "Original", "overview"]

FX_OPS = ("placeholder", "get_attr", "call_function", "call_method", "call_module", "output")


@dataclass(frozen=True)
class Original:
    """A node before the first transform: its type, its op, and its module if it has one."""

    type: str
    op: str
    module: "weakref.ref[nn.Module] | None"


ORIGINALS = Fact[dict[str, Original]]("originals", dict, of="full precision")


@dataclass(frozen=True)
class GraphReport(AnalysisPass):
    """Print the fx graph, count its nodes by fx operation, and list its layers, as MASE's ``report_graph`` does.

    The text is written to ``report-graph.txt``.
    """

    name: ClassVar[str] = "report-graph"
    provides: ClassVar[tuple[Fact[Any], ...]] = (ORIGINALS,)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `ORIGINALS`, before the first transform."""
        graph.facts.set(ORIGINALS, _originals(graph))
        text, counts, layers = overview(graph)
        kinds = Counter(layer.partition("(")[0] for layer in layers)
        tables = (
            TextTable(("fx op", "nodes"), tuple(counts.items())),
            TextTable(("layer type", "layers"), tuple(kinds.items())),
        )
        data = {"graph": str(graph.fx), "nodes": counts, "layer_types": layers}
        summary = f"{sum(counts.values())} nodes, {len(layers)} layers"
        return Report(summary, tables, data, files={"report-graph.txt": f"{text}\n".encode()})


def overview(graph: "Graph") -> tuple[str, dict[str, int], list[str]]:
    """Return the three parts as one text, and the last two by themselves: nodes by fx operation, layers as printed."""
    found = Counter(node.op for node in graph.fx.nodes)
    counts = {op: found[op] for op in FX_OPS}
    nodes = [node for node in graph.fx.nodes if node.op == "call_module"]
    layers = [str(graph.model.get_submodule(str(node.target))) for node in nodes]
    text = f"{str(graph.fx).strip()}\nNetwork overview:\n{counts}\nLayer types:\n[{', '.join(layers)}]"
    return text, counts, layers


def _originals(graph: "Graph") -> dict[str, Original]:
    from q2.graph.naming import node_op

    found = {}
    for node in graph.fx.nodes:
        op = node_op(graph.model, node)
        if node.op == "call_module":
            module = graph.model.get_submodule(str(node.target))
            kind = getattr(module, "exact_class", type(module)).__name__
            found[node.name] = Original(kind, op, weakref.ref(module))
        else:
            found[node.name] = Original(node.name if node.op in ("placeholder", "output") else op, op, None)
    return found
