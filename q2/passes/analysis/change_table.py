"""Which nodes the transforms have changed, by type."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.passes.analysis.graph_report import ORIGINALS
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["ChangeTable", "changes"]


@dataclass(frozen=True)
class ChangeTable(AnalysisPass):
    """Count, for every original type and op, the nodes that are there, changed and unchanged.

    A node is changed if its module is another one than before the first transform, or quantized by now.
    """

    name: ClassVar[str] = "change-table"
    requires: ClassVar[tuple[str, ...]] = ("report-graph",)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Compare with the fact `ORIGINALS`."""
        rows = changes(graph)
        changed, total = sum(row[3] for row in rows), sum(row[2] for row in rows)
        heads = ("Original type", "OP", "Total", "Changed", "Unchanged")
        data = {"rows": [dict(zip(heads, row, strict=True)) for row in rows], "changed": changed, "total": total}
        return Report(f"{changed} of {total} nodes changed", (TextTable(heads, rows),), data)


def changes(graph: "Graph") -> tuple[tuple[str, str, int, int, int], ...]:
    """Return original type, op, nodes, changed and unchanged ones, sorted by type."""
    originals = graph.facts.get(ORIGINALS)
    now = {node.name: node for node in graph.fx.nodes}
    groups: dict[tuple[str, str], list[bool]] = {}
    for name, original in originals.items():
        changed = name not in now
        if not changed and original.module is not None:
            module = graph.model.get_submodule(str(now[name].target))
            changed = original.module() is not module
        groups.setdefault((original.type, original.op), []).append(changed)
    return tuple(
        (kind, op, len(group), sum(group), len(group) - sum(group)) for (kind, op), group in sorted(groups.items())
    )
