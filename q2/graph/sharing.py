"""Which weight layers read the same tensor: q, k and v, for example."""

from q2.graph.graph import Graph
from q2.graph.tracing.guards import writes_in_place

__all__ = ["readers"]


def readers(graph: Graph) -> dict[str, str]:
    """Return for every weight layer, in execution order, the first layer that reads the same tensor; often itself.

    A layer that is called more than once, or sits inside a mixture of experts, shares nothing.

    >>> from torch import nn
    >>> from q2.graph import trace
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> readers(trace(model, {"input": __import__("torch").zeros(3, 4)}))
    {'0': '0', '1': '1'}
    """
    layers = graph.weight_layers
    found = {name: name for name in layers}
    first: dict[object, str] = {}
    for node in graph.fx.nodes:
        if writes_in_place(node.op, node.target, node.kwargs):
            first.clear()  # what was read may have been written to
        name = str(node.target)
        if node.op == "call_module" and name in layers and layers[name].calls == 1:
            read = node.args[0] if node.args else node.kwargs.get("input")
            found[name] = first.setdefault(read, name)
    return found
