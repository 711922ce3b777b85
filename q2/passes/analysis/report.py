"""An overview of the graph: what it is made of, and its weight layers."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.passes.analysis.size import SIZES
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, select

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["ReportGraph"]


@dataclass(frozen=True)
class ReportGraph(AnalysisPass):
    """Count nodes by fx operation and modules by type, and list the weight layers that match `layers`."""

    name: ClassVar[str] = "report"
    requires: ClassVar[tuple[str, ...]] = ("size",)
    layers: str = "*"
    """A shell-style pattern: which weight layers are in the table."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` if `layers` matches nothing."""
        select(graph.weight_layers, self.layers)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Report; the layers' options and sizes come from the fact `SIZES`."""
        ops = Counter(node.op for node in graph.fx.nodes)
        kinds = Counter(
            type(graph.model.get_submodule(n.target)).__name__ for n in graph.fx.nodes if n.op == "call_module"
        )
        sizes = graph.facts.get(SIZES)
        rows = []
        for name in select(graph.weight_layers, self.layers):
            layer, size = graph.weight_layers[name], sizes[name]
            shape = "×".join(map(str, layer.shape))
            rows.append((name, layer.type, shape, layer.macs / 1e6, layer.calls, size.option, size.bits / size.weights))
        weights = sum(layer.weights for layer in graph.weight_layers.values())
        tables = (
            TextTable(("fx op", "nodes"), tuple(ops.most_common())),
            TextTable(("module", "calls"), tuple(kinds.most_common())),
            TextTable(("layer", "type", "shape", "MMACs", "calls", "option", "bits/weight"), tuple(rows)),
        )
        summary = f"{sum(ops.values())} nodes, {len(graph.weight_layers)} weight layers, {weights / 1e6:.2f} M weights"
        data = {
            "nodes": dict(ops),
            "modules": dict(kinds),
            "weight_layers": len(graph.weight_layers),
            "weights": weights,
        }
        return Report(summary, tables, data)
