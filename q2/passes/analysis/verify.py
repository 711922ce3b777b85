"""Whether the graph still is what its model computes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.errors import Q2Error
from q2.passes.base import AnalysisPass, PassContext, Report

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["Verify"]


@dataclass(frozen=True)
class Verify(AnalysisPass):
    """Check that the graph is well formed, that it computes what its model does, and that its outputs are finite.

    `rtol` is relative to the largest output; 0 asks for equality.
    """

    name: ClassVar[str] = "verify"
    rtol: float = 0.0
    """The relative difference between graph and model that is accepted."""

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Raise `Q2Error` for what is wrong."""
        import torch
        from torch.utils import _pytree as pytree

        graph.verify(rtol=self.rtol)
        with torch.no_grad():
            output = graph(**graph.example_inputs)
        for leaf in pytree.tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and not leaf.is_meta and not torch.isfinite(leaf).all():
                raise Q2Error(f"{int((~torch.isfinite(leaf)).sum())} of {leaf.numel()} outputs are NaN or infinite")
        return Report(f"{len(graph.fx.nodes)} nodes, equal to the model", data={"nodes": len(graph.fx.nodes)})
