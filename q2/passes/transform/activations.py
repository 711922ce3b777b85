"""Puts activation quantization into the graph that is executed: before weight layers, and around attention."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from q2.graph import Attention, Choice
from q2.graph.attention import find_attention, labels_of, leads_to
from q2.graph.operations import argument
from q2.graph.tracing.guards import writes_in_place
from q2.quant.activations import quantize_activation, quantize_channels, quantized_attention
from q2.quant.widths import FULL

__all__ = ["ActivationBits", "InputBits"]

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@dataclass(frozen=True)
class InputBits:
    """The bits of a weight layer's input, for each range of its channels, None for all; `spatial` counts dimensions."""

    spatial: int
    parts: tuple[tuple[int, tuple[int, int] | None], ...]

    @property
    def quantizer(self) -> tuple[Any, ...]:
        """The function that quantizes the input, and its options."""
        dims = tuple(range(-self.spatial, 0)) or (-1,)
        lengths = tuple((channels[1] - channels[0], bits) for bits, channels in self.parts if channels)
        by_channel = self.spatial and len({bits for bits, _ in self.parts}) == 1
        if by_channel or not lengths:
            return quantize_activation, self.parts[0][0], dims
        return quantize_channels, lengths, -1 - self.spatial, dims


@dataclass(frozen=True)
class ActivationBits:
    """The bits of activations: of weight layers' inputs and of attention, by name; 16 for what is not named.

    `attention` are the bits of q, k and v, by the path of the module that computes it; `softmax` those of the softmax
    between them. Called as a rewrite of a graph, it puts the quantizers in.
    """

    layers: Mapping[str, InputBits]
    attention: Mapping[str, int]
    softmax: int

    def of(self, choice: Choice) -> int:
        """Return the bits of a weight layer's input, or of the part of it that a choice is about."""
        layer = self.layers.get(choice.layer.name)
        return next((bits for bits, channels in layer.parts if channels == choice.channels), FULL) if layer else FULL

    def __call__(self, model: nn.Module, graph: fx.Graph) -> None:
        """Edit `graph`: every layer and attention computes from quantized values; layers that read one share it."""
        attentions = find_attention(model, graph.nodes)
        shared: dict[tuple[object, ...], fx.Node] = {}
        for node in list(graph.nodes):
            if writes_in_place(node.op, node.target, node.kwargs):
                shared.clear()  # what was quantized may have been written to
            layer = self.layers.get(str(node.target)) if node.op == "call_module" else None
            if layer:
                place: int | str = 0 if node.args else next(iter(node.kwargs))
                read = (_operand(node, place), *layer.quantizer)
                if read not in shared:
                    shared[read] = _before(node, *read)
                _set_operand(node, place, shared[read])
        for each in attentions:
            bits = self.attention.get(each.name, FULL)
            if bits < FULL and each.is_fused:
                self._fused(each.softmax, bits)
            elif bits < FULL and each.scores and each.values:
                self._written_out(model, each, bits)

    def _fused(self, node: fx.Node, bits: int) -> None:
        given = dict(zip(_ARGUMENTS, node.args, strict=False)) | node.kwargs
        node.target, node.args = quantized_attention, tuple(given.pop(name) for name in _ARGUMENTS[:3])
        node.kwargs = {**given, "bits": bits, "softmax": self.softmax}

    def _written_out(self, model: nn.Module, attention: Attention, bits: int) -> None:
        """Quantize q and k along what their product sums over, v along what only it has, and the softmax by rows."""
        for product in attention.scores:
            operands, out = labels_of(product)
            summed = set.intersection(*map(set, operands.values())) - set(out)
            for place, labels in operands.items():
                _quantize(product, place, bits, _dims(labels, summed))
        for product in attention.values:
            operands, _ = labels_of(product)
            weights = next(place for place in operands if leads_to(attention.softmax, _operand(product, place)))
            (value,) = (place for place in operands if place != weights)
            _quantize(product, value, bits, _dims(operands[value], set(operands[value]) - set(operands[weights])))
        softmax = attention.softmax
        dim = getattr(model.get_submodule(str(softmax.target)), "dim", -1) if softmax.op == "call_module" else None
        options = (self.softmax, (dim if dim is not None else argument(softmax, 1, "dim", -1),))
        with softmax.graph.inserting_after(softmax):
            rounded = softmax.graph.call_function(quantize_activation, (softmax, *options), {"floor": True})
        softmax.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)


def _dims(labels: str, wanted: set[str]) -> tuple[int, ...]:
    return tuple(i - len(labels) for i, label in enumerate(labels) if label in wanted)


def _quantize(node: fx.Node, place: int, bits: int, dims: tuple[int, ...]) -> None:
    _set_operand(node, place, _before(node, _operand(node, place), quantize_activation, bits, dims))


def _before(node: fx.Node, operand: fx.Node, function: Callable[..., Tensor], *options: Any) -> fx.Node:
    """Insert a call of `function` on an operand of `node`."""
    with node.graph.inserting_before(node):
        return node.graph.call_function(function, (operand, *options))


def _operand(node: fx.Node, place: int | str) -> Any:
    return node.args[place] if isinstance(place, int) else node.kwargs[place]


def _set_operand(node: fx.Node, place: int | str, value: fx.Node) -> None:
    if isinstance(place, int):
        node.update_arg(place, value)
    else:
        node.update_kwarg(place, value)
