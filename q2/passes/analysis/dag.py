"""A picture of the denoiser: its flow graph by units, or one block by layers, coloured by the bits in place."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from q2.passes.analysis.size import SIZES
from q2.passes.analysis.units import UNITS
from q2.passes.base import AnalysisPass, PassContext, Report

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["Dag"]


@dataclass(frozen=True)
class Dag(AnalysisPass):
    """Draw the flow graph with graphviz: repeated blocks once, a frame per block.

    Without `block` a box is a unit; with it (``3``, ``up_blocks.1``) the layers of that block are drawn. A run writes
    the picture into its folder.
    """

    name: ClassVar[str] = "dag"
    requires: ClassVar[tuple[str, ...]] = ("units", "size")
    block: str = ""
    """Draw one block by layers, such as `3` or `up_blocks.1`; empty: the whole graph by units (docs/flow.md)."""
    format: Literal["svg", "png"] = "svg"
    """The picture's format, `svg` or `png`."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` for a block that is not there."""
        from q2.graph.flow.draw import check_block

        check_block(graph.flow(), self.block)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Return the picture as a file of the report."""
        from q2.graph.flow.draw import draw

        sizes = graph.facts.get(SIZES)
        quantized = any(size.option != "none" for size in sizes.values())
        bits = {name: size.bits / size.weights for name, size in sizes.items()} if quantized else {}
        title = ctx.denoiser.label if ctx.denoiser else type(graph.model).__name__
        label = f"{title} · {self.block}" if self.block else title
        units = graph.facts.get(UNITS)
        picture = draw(graph, units, title=label, block=self.block, bits=bits, kind=self.format)
        file = f"dag-{self.block or 'all'}.{self.format}"
        summary = f"{len(units)} units · {len(graph.flow())} nodes, {graph.flow().size()} edges"
        return Report(f"{summary} → {file}", data={"file": file}, files={file: picture})
