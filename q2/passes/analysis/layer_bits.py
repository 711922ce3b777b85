"""What layers really hold and read: bits of weights, biases and inputs, at full precision or in their formats."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from q2.quant.kinds import QUANTIZERS

if TYPE_CHECKING:
    from torch import fx, nn

    from q2.graph import Graph
    from q2.passes.base import PassContext

__all__ = ["LayerBits", "layer_bits"]


@dataclass(frozen=True)
class LayerBits:
    """A layer's elements and bits. `weight_width` and `input_width` are the widths that enter the arithmetic."""

    node: str
    layer: str
    op: str
    weights: int
    weight_bits: int
    biases: int
    bias_bits: int
    inputs: int
    input_bits: int
    weight_width: float
    input_width: int


def layer_bits(graph: "Graph", ctx: "PassContext") -> list[LayerBits]:
    """Return the bits of every layer with parameters, once for every node that calls it."""
    nodes = [node for node in graph.fx.nodes if node.op == "call_module"]
    found = (_bits(graph, node, graph.model.get_submodule(str(node.target)), ctx) for node in nodes)
    return [each for each in found if each is not None]


def _bits(graph: "Graph", node: "fx.Node", module: "nn.Module", ctx: "PassContext") -> LayerBits | None:
    import torch

    from q2.graph.naming import node_op
    from q2.quant.formatted import formats_of
    from q2.quant.packed.layers import Packed
    from q2.quant.simulated import parts_of

    formats, parts = formats_of(module), parts_of(module)
    held = dict(module.named_parameters())
    if isinstance(module, Packed):
        held = {"weight": torch.empty(module.shape, dtype=module.weight.dtype, device="meta"), **held}  # type: ignore[dict-item]
    if not held:
        return None
    counts = {"weight": (0, 0), "bias": (0, 0)}
    for name, tensor in held.items():
        form, role = formats.of(name), "bias" if name.endswith("bias") else "weight"
        bits = form.bits(tensor.shape) if form else tensor.numel() * tensor.element_size() * 8
        if name == "weight" and not parts[0].option.is_none:
            bits = sum(_part_bits(part, tensor.shape, ctx) for part in parts)
        counts[role] = counts[role][0] + tensor.numel(), counts[role][1] + bits
    source = next((each.meta.get("val") for each in node.all_input_nodes), None)
    if not isinstance(source, torch.Tensor):
        source = torch.empty(0, device="meta")
    inputs, plain = source.numel(), source.element_size() * 8
    read = formats.data_in.bits(source.shape) if formats.data_in and inputs else inputs * plain
    width: float = formats.weight.width if formats.weight else 0
    if not parts[0].option.is_none and not width:
        options = [(part, ctx.plugins.of(QUANTIZERS).load(part.option.quantizer)()) for part in parts]
        width = sum(q.arithmetic_bits(part.option.bits) for part, q in options) / len(options)
    first = next(iter(held.values()))
    return LayerBits(
        node.name,
        str(node.target),
        node_op(graph.model, node),
        *counts["weight"],
        *counts["bias"],
        inputs,
        read,
        width or first.element_size() * 8,
        formats.data_in.width if formats.data_in else plain,
    )


def _part_bits(part: object, shape: object, ctx: "PassContext") -> int:
    from q2.quant.simulated import Part

    assert isinstance(part, Part)
    mine = part.of_shape(tuple(shape))  # type: ignore[arg-type]
    if part.option.is_none:
        return math.prod(mine) * ctx.prec
    return ctx.plugins.of(QUANTIZERS).load(part.option.quantizer)().size_bits(mine, part.option.bits, ctx.prec)
