"""A table of all nodes with what is known of each: MASE's ``report_node_meta_param``."""

import json
import pprint
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.passes.analysis.profile import PROFILE
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable

if TYPE_CHECKING:
    from torch import fx

    from q2.graph import Graph

__all__ = ["HEADS", "NodeMeta", "node_rows"]

HEADS = ("Node name", "Fx Node op", "Mase type", "Mase op", "Software Param")
_WIDTH = 88


@dataclass(frozen=True)
class NodeMeta(AnalysisPass):
    """List every node: name, fx op, type, op, and the statistics that ``profile-statistics`` has found.

    The table is written to ``node-meta.txt`` and ``node-meta.json``.
    """

    name: ClassVar[str] = "report-node-meta"

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Report; statistics come from the fact `PROFILE`, where it is there."""
        rows = node_rows(graph)
        data = [dict(zip(HEADS, row, strict=True)) for row in rows]
        short = tuple((*row[:4], _statistics(row[4])) for row in rows)
        table = TextTable((*HEADS[:4], "statistics"), short)
        files = {
            "node-meta.txt": f"{drawn_nodes(rows)}\n".encode(),
            "node-meta.json": (json.dumps(data, indent=2) + "\n").encode(),
        }
        return Report(f"{len(rows)} nodes", (table,), {"nodes": data}, files=files)


Row = tuple[str, str, str, str, dict[str, dict[str, dict[str, object]]]]


def node_rows(graph: "Graph") -> list[Row]:
    """Return a row for every node: what `HEADS` says."""
    from q2.graph.naming import node_kind, node_op

    stats = graph.facts.get(PROFILE) if PROFILE in graph.facts else {}
    rows: list[Row] = []
    for node in graph.fx.nodes:
        found = stats.get(node.name, {})
        software: dict[str, dict[str, dict[str, object]]] = {}
        if node.op != "placeholder":
            software["args"] = {name: {"stat": dict(found.get(name, {}))} for name in sorted(_arguments(graph, node))}
        if node.op != "output":
            software["results"] = {"data_out_0": {"stat": {}}}
        rows.append((node.name, node.op, node_kind(graph.model, node), node_op(graph.model, node), software))
    return rows


def drawn_nodes(rows: list[Row]) -> str:
    """Return the rows as the documents' grid."""
    from tabulate import tabulate

    shown = [(*row[:4], pprint.pformat(row[4], width=_WIDTH)) for row in rows]
    return str(tabulate(shown, headers=HEADS, tablefmt="grid"))


def _arguments(graph: "Graph", node: "fx.Node") -> list[str]:
    names = [f"data_in_{i}" for i in range(len(node.all_input_nodes))]
    if node.op == "call_module":
        module = graph.model.get_submodule(str(node.target))
        held = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        names += [name for name, tensor in held if tensor.ndim]
    return names


def _statistics(software: dict[str, dict[str, dict[str, object]]]) -> str:
    known = [name for name, entry in software.get("args", {}).items() if entry["stat"]]
    return ", ".join(known) or "–"
