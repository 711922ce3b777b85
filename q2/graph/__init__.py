"""A denoiser as a graph: tracing, facts, running it, replacing its layers."""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.graph.attention import Attention
    from q2.graph.choices import Choice
    from q2.graph.editing import Edit
    from q2.graph.facts import Fact, Facts, Origin
    from q2.graph.flow.units import Unit
    from q2.graph.graph import Graph
    from q2.graph.layers import WeightLayer
    from q2.graph.printing import graph_text
    from q2.graph.tracing.trace import trace
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "Attention",
    "Choice",
    "Edit",
    "Fact",
    "Facts",
    "Graph",
    "Origin",
    "Unit",
    "WeightLayer",
    "graph_text",
    "trace",
]
