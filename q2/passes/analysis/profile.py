"""Statistics of chosen weights and activations, over samples of the data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from q2.config import Table
from q2.errors import Q2Error
from q2.graph import Fact
from q2.passes.analysis.statistics import Statistic, statistic_of
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable
from q2.passes.transform.rules import By, matching

if TYPE_CHECKING:
    from torch import Tensor, fx

    from q2.graph import Graph

__all__ = ["PROFILE", "ProfileStatistics"]

NodeStats = dict[str, dict[str, dict[str, object]]]
PROFILE = Fact[dict[str, NodeStats]]("profile", dict)
"""By node, then ``args`` name or ``results`` name, then statistic: what was found."""


@dataclass(frozen=True)
class ProfileStatistics(AnalysisPass):
    """Statistics of the parameters of some nodes and of the inputs of others (MASE's ``profile_statistics``).

    Nodes are meant by type (``linear``, ``relu``), name or regex. The tables map a statistic (``variance_precise``,
    ``variance_online``, ``range_quantile``, ``range_n_sigma``, ``range_min_max``, ``abs_mean``) to its options: `dims`,
    `device`, `abs`, `quantile`, `num_sigma`. Activations are those of `num_samples` samples of the data's `split`; of a
    graph without data, of its example inputs.
    """

    name: ClassVar[str] = "profile-statistics"
    needs_weights: ClassVar[bool] = True
    provides: ClassVar[tuple[Fact[Any], ...]] = (PROFILE,)
    by: By = "type"
    """How targets match nodes: `type`, `name` or `regex`."""
    target_weight_nodes: tuple[str, ...] = ()
    """Nodes whose parameters are looked at."""
    target_activation_nodes: tuple[str, ...] = ()
    """Nodes whose inputs are looked at."""
    weight_statistics: Mapping[str, Table] = field(default_factory=dict)
    """Statistics of parameters: tables by their name (docs/mase.md)."""
    activation_statistics: Mapping[str, Table] = field(default_factory=dict)
    """Statistics of inputs: tables by their name (docs/mase.md)."""
    num_samples: int = 32
    """How many samples of the data are run."""
    split: Literal["train", "validation", "test"] = "train"
    """The split of the data that they are from."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` for a target that matches no node, and for a statistic or option that there is not."""
        self.targets(graph, "target_weight_nodes")
        self.targets(graph, "target_activation_nodes")
        self._made("weight_statistics")
        self._made("activation_statistics")

    def targets(self, graph: "Graph", what: str) -> "list[fx.Node]":
        """Return the nodes that an option means, in the order of the graph."""
        from q2.graph.naming import node_op

        nodes = {node.name: node for node in graph.fx.nodes if node.op.startswith("call")}
        ops = {name: node_op(graph.model, node).replace("_", "") for name, node in nodes.items()}
        found: set[str] = set()
        for key in getattr(self, what):
            found |= set(matching(self.by, key.replace(".", "_") if self.by == "name" else key, ops))
        return [node for name, node in nodes.items() if name in found]

    def _made(self, what: str) -> dict[str, Statistic]:
        return {name: statistic_of(name, options, what) for name, options in getattr(self, what).items()}

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `PROFILE`."""
        return self.profile(graph, self.inputs(graph, ctx))

    def inputs(self, graph: "Graph", ctx: PassContext) -> "Iterable[Mapping[str, object]]":
        """Return calls of the model: samples of the data, or the example inputs."""
        if ctx.model is None or ctx.model.data is None:
            return [graph.example_inputs]
        (name,) = ctx.model.example_inputs()
        batches = ctx.model.data.batches(self.split, samples=self.num_samples)
        return ({name: inputs.to(ctx.model.device)} for inputs, _ in batches)

    def profile(self, graph: "Graph", calls: "Iterable[Mapping[str, object]]") -> Report:
        """Run the graph on calls of its model, and set the fact `PROFILE`. Raises `Q2Error` on the device meta."""
        stats: dict[str, NodeStats] = {}
        if any(weight.is_meta for weight in graph.model.parameters()):
            raise Q2Error("the model has no weights (device meta)")
        for node in self.targets(graph, "target_weight_nodes"):
            module = graph.model.get_submodule(str(node.target)) if node.op == "call_module" else None
            for name in dict(module.named_parameters(recurse=False)) if module else ():
                weight = getattr(module, name)
                stats.setdefault(node.name, {})[name] = _found(self._made("weight_statistics"), [weight])
        nodes = self.targets(graph, "target_activation_nodes")
        if nodes and self.activation_statistics:
            watched = {node.name: self._made("activation_statistics") for node in nodes}
            _watch(graph, calls, watched)
            for name, made in watched.items():
                found = {key: statistic.result() for key, statistic in made.items()}
                stats.setdefault(name, {})["data_in_0"] = found
        graph.facts.set(PROFILE, stats)
        return _report(stats)


def _found(made: Mapping[str, Statistic], tensors: "Iterable[Tensor]") -> dict[str, dict[str, object]]:
    tensors = list(tensors)
    for statistic in made.values():
        for tensor in tensors:
            statistic.add(tensor)
    return {name: statistic.result() for name, statistic in made.items()}


def _watch(
    graph: "Graph", calls: "Iterable[Mapping[str, object]]", watched: Mapping[str, Mapping[str, Statistic]]
) -> None:
    """Run the graph, and hand the first tensor that every watched node reads to its statistics."""
    import torch
    from torch import fx

    class Watcher(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if n.name in watched:
                values: Any = self.map_nodes_to_values(n.args, n)
                first = next((each for each in values if isinstance(each, torch.Tensor)), None)
                if first is not None:
                    for statistic in watched[n.name].values():
                        statistic.add(first)
            return super().run_node(n)

    watcher = Watcher(graph.model, graph=graph.fx)
    with torch.no_grad():
        for call in calls:
            watcher.run(*graph.placeholder_values(**call))


def _report(stats: Mapping[str, NodeStats]) -> Report:
    rows = [
        (node, what, statistic, ", ".join(f"{key} {_shown(value)}" for key, value in found.items()))
        for node, entries in stats.items()
        for what, statistics in entries.items()
        for statistic, found in statistics.items()
    ]
    table = TextTable(("node", "of", "statistic", "found"), tuple(rows))
    return Report(f"{len(rows)} statistics of {len(stats)} nodes", (table,), {"nodes": dict(stats)})


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else "per channel"
