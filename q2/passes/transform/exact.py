"""Run a graph at full precision for a while, whatever its layers are quantized to."""

from collections.abc import Iterator
from contextlib import contextmanager

from q2.errors import Q2Error
from q2.graph import Graph, WeightLayer
from q2.passes.base import PassContext, at_layer
from q2.passes.transform.apply import exact_weight
from q2.quant import Option, Part, switch_layer
from q2.quant.options import NONE
from q2.quant.packed.layers import Packed
from q2.quant.simulated import Quantized, Simulated

__all__ = ["at_full_precision", "quantized_layers", "simulated"]


@contextmanager
def at_full_precision(graph: Graph, ctx: PassContext) -> Iterator[None]:
    """Have the model compute with full-precision weights and no rewrite within the `with`.

    Layers may be given options inside; behind it every layer is what it was before. Raises `Q2Error` where a
    full-precision weight is gone.
    """
    rewrites, plain = dict(graph.rewrites), [Part(Option(NONE, 0))]
    modules = {name: layer.module for name, layer in graph.weight_layers.items()}
    before = {name: module.parts for name, module in modules.items() if isinstance(module, Quantized)}
    try:
        for name in rewrites:
            graph.rewrite(name, None)
        for name, layer in quantized_layers(graph).items():
            with at_layer(name):
                switch_layer(simulated(layer), plain, exact_weight(layer, ctx))
        yield
    finally:
        for name, module in modules.items():
            layer = graph.weight_layers[name]
            if layer.module is not module:
                graph.replace(name, module)
            if isinstance(module, Quantized) and module.parts != before[name]:
                switch_layer(module, before[name], exact_weight(layer, ctx))
        for name, change in rewrites.items():
            graph.rewrite(name, change)


def quantized_layers(graph: Graph) -> dict[str, WeightLayer]:
    """Return the layers that are quantized, or a part of which is."""
    return {
        name: layer
        for name, layer in graph.weight_layers.items()
        if isinstance(layer.module, Quantized) and not all(part.option.is_none for part in layer.module.parts)
    }


def simulated(layer: WeightLayer) -> Simulated:
    """Return the module of a layer that is quantized. Raises `Q2Error` for a packed one, whose weight is gone."""
    module = layer.module
    if isinstance(module, Packed):
        raise Q2Error("is packed, its full-precision weight is gone; load the checkpoint that it was made of")
    assert isinstance(module, Simulated)
    return module
