"""MASE's graph over q2's: the traced copy of a model, with MASE's metadata on its nodes."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from q2.errors import ConfigError
from q2.graph import Graph, trace
from q2.graph.naming import node_kind, node_op

__all__ = [
    "MaseGraph",
    "MaseMeta",
    "add_common_metadata_analysis_pass",
    "add_software_metadata_analysis_pass",
    "init_metadata_analysis_pass",
]

PassArgs = Mapping[str, Any] | None
Result = tuple["MaseGraph", dict[str, Any]]


@dataclass(frozen=True)
class MaseMeta:
    """What ``node.meta["mase"]`` holds: the node's kind, op and statistics, and its module as it is now."""

    graph: Graph
    node: fx.Node

    @property
    def module(self) -> nn.Module | None:
        """The module that the node calls."""
        return self.graph.model.get_submodule(str(self.node.target)) if self.node.op == "call_module" else None

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """MASE's tables ``common`` and ``software``."""
        from q2.passes.analysis.node_meta import node_rows

        row = next(row for row in node_rows(self.graph) if row[0] == self.node.name)
        return {"common": {"mase_type": row[2], "mase_op": row[3]}, "software": row[4]}


class MaseGraph:
    """A copy of `model` as a graph. `dummy_in` are keyword arguments of its forward; q2's networks know some.

    `graph` is q2's `Graph`. Raises `ConfigError` where nothing says what the model takes.
    """

    def __init__(self, model: nn.Module, cf_args: object = None, dummy_in: Mapping[str, object] | None = None) -> None:
        inputs = dummy_in or vars(model).get("example_inputs")
        if inputs is None:
            raise ConfigError(f"MaseGraph of {type(model).__name__}: say dummy_in, arguments of its forward")
        self.graph = trace(copy.deepcopy(model).eval(), inputs)
        self._annotate()

    def _annotate(self) -> None:
        for node in self.graph.fx.nodes:
            node.meta["mase"] = MaseMeta(self.graph, node)

    def retrace(self, dummy_in: Mapping[str, object]) -> None:
        """Trace the copy with other inputs."""
        self.graph.retrace(dummy_in)
        self._annotate()

    @property
    def model(self) -> nn.Module:
        """The copy that the passes work on."""
        return self.graph.model

    @property
    def fx_graph(self) -> fx.Graph:
        """The fx graph."""
        return self.graph.fx

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All modules by name."""
        return dict(self.graph.model.named_modules())

    def __repr__(self) -> str:
        ops = ", ".join(node_op(self.graph.model, node) for node in self.fx_graph.nodes if node.op == "call_module")
        kinds = {node_kind(self.graph.model, node) for node in self.fx_graph.nodes}
        return f"MaseGraph({type(self.model).__name__}: {ops}; {len(kinds)} kinds of nodes)"


def init_metadata_analysis_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Return the graph: its metadata are there from the start."""
    return graph, {}


def add_common_metadata_analysis_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Trace the graph with ``pass_args["dummy_in"]``, if it is given."""
    if pass_args and pass_args.get("dummy_in"):
        graph.retrace(pass_args["dummy_in"])
    return graph, {}


def add_software_metadata_analysis_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Return the graph: its metadata are there from the start."""
    return graph, {}
