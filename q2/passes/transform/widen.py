"""Widens a traced model: how many channels every value has follows through the graph, node by node."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from q2.errors import Q2Error
from q2.graph import Graph
from q2.graph.operations import ADD, CONCAT, argument, operation
from q2.passes.base import at_layer
from q2.quant.formatted import Formatted
from q2.quant.simulated import Quantized

__all__ = ["widen"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_SAME = frozenset({
    "relu", "gelu", "silu", "sigmoid", "tanh", "dropout", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d",
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "contiguous", "clone", "mean", "leaky_relu", "relu6", "hardtanh",
    "elu", "softplus", "mish", "hardswish", "pad", "neg", "abs", "float", "identity",
})  # fmt: skip
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def widen(graph: Graph, plan: Mapping[str, float], seed: int) -> list[str]:
    """Multiply the output channels of weight layers and rebuild what reads them; return the modules that are new.

    Weights of new modules are drawn from `seed`. The graph is traced anew. Raises `Q2Error`, with the layer, for what
    cannot be widened; the model is as before then.
    """
    new: dict[str, nn.Module] = {}
    channels: dict[fx.Node, int] = {}  # of every value, now
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for node in graph.fx.nodes:
            with at_layer(str(node.target) if node.op == "call_module" else node.name):
                _follow(graph, node, plan, channels, new)
    for name, module in new.items():
        _put(graph.model, name, module.to(next(graph.model.parameters()).device))
    if new:
        graph.retrace()
    return list(new)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    holder = model.get_submodule(parent)
    setattr(holder, attribute, module.train(getattr(holder, attribute).training))


def _follow(
    graph: Graph, node: fx.Node, plan: Mapping[str, float], channels: dict[fx.Node, int], new: dict[str, nn.Module]
) -> None:
    """Work out a node's channels, and rebuild its module if it has other ones than before."""
    value = node.meta.get("val")
    sources = [source for source in node.all_input_nodes if channels.get(source, 0) != _before(source)]
    if node.op == "output":
        if sources:
            raise Q2Error("the model's outputs would have other channels; leave its last layers at 1")
        return
    if not isinstance(value, torch.Tensor) or node.op in ("placeholder", "get_attr"):
        channels[node] = _before(node)
        return
    name = str(node.target)
    if node.op == "call_module" and name in graph.weight_layers:
        channels[node] = _layer(graph, node, plan[name], channels, new)
        return
    if not sources:
        channels[node] = _before(node)
        return
    module = graph.model.get_submodule(name) if node.op == "call_module" else None
    if isinstance(module, _NORMS):
        channels[node] = channels[sources[0]]
        _add(new, name, _norm(module, _before(sources[0]), channels[sources[0]]), module)
        return
    channels[node] = _passed(graph, node, channels)


def _before(node: fx.Node) -> int:
    """Return the channels of a value as traced: its second dim of an image, else its last."""
    value = node.meta.get("val")
    return value.shape[_dim(value)] if isinstance(value, torch.Tensor) and value.ndim else 0


def _dim(value: torch.Tensor) -> int:
    return 1 if value.ndim >= 4 else value.ndim - 1


def _layer(
    graph: Graph, node: fx.Node, multiplier: float, channels: dict[fx.Node, int], new: dict[str, nn.Module]
) -> int:
    name, source = str(node.target), node.all_input_nodes[0]
    layer = graph.weight_layers[name]
    outputs = layer.out_channels * multiplier
    if outputs != int(outputs):
        raise Q2Error(f"{layer.out_channels} output channels times {multiplier} is no whole number")
    inputs = layer.in_channels * channels[source] // max(_before(source), 1)
    if (inputs, int(outputs)) == (layer.in_channels, layer.out_channels):
        return layer.out_channels
    module = layer.module
    if layer.groups > 1 and not (layer.groups == layer.in_channels == layer.out_channels and inputs == int(outputs)):
        raise Q2Error(f"a convolution in {layer.groups} groups cannot be widened")
    _add(new, name, _rebuilt(module, inputs, int(outputs)), module)
    return int(outputs)


def _add(new: dict[str, nn.Module], name: str, module: nn.Module, old: nn.Module) -> None:
    if isinstance(old, Quantized | Formatted):
        raise Q2Error("is quantized already; widen before")
    before = new.get(name)
    if before is not None and str(before) != str(module):
        raise Q2Error("is called several times, with other channels each time")
    new[name] = module


def _rebuilt(module: nn.Module, inputs: int, outputs: int) -> nn.Module:
    if isinstance(module, nn.Linear):
        return nn.Linear(inputs, outputs, module.bias is not None)
    assert isinstance(module, _CONVOLUTIONS)
    options: dict[str, Any] = {
        key: getattr(module, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    groups = outputs if module.groups > 1 else 1
    base = next(kind for kind in _CONVOLUTIONS if isinstance(module, kind))
    return base(inputs, outputs, groups=groups, bias=module.bias is not None, **options)


def _norm(module: nn.Module, before: int, now: int) -> nn.Module:
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
        return type(module)(now, module.eps, module.momentum, module.affine, module.track_running_stats)
    if isinstance(module, nn.GroupNorm):
        if now % module.num_groups:
            raise Q2Error(f"{now} channels do not divide into {module.num_groups} groups")
        return nn.GroupNorm(module.num_groups, now, module.eps, module.affine)
    assert isinstance(module, nn.LayerNorm | nn.RMSNorm)
    if tuple(module.normalized_shape) != (before,):
        raise Q2Error(f"normalizes {tuple(module.normalized_shape)}, expected the channels alone")
    options: dict[str, Any] = {"eps": module.eps, "elementwise_affine": module.elementwise_affine}
    if isinstance(module, nn.LayerNorm):
        options["bias"] = module.bias is not None
    return type(module)(now, **options)


def _passed(graph: Graph, node: fx.Node, channels: dict[fx.Node, int]) -> int:
    """Return the channels of what a node without channels of its own makes of its inputs."""
    name = operation(graph.model, node)[0]
    tensors = [each for each in node.all_input_nodes if isinstance(each.meta.get("val"), torch.Tensor)]
    found = [channels[each] for each in tensors]
    value = node.meta["val"]
    first = tensors[0].meta["val"]
    if name in ADD or name in ("mul", "imul", "truediv"):
        wide = {count for each, count in zip(tensors, found, strict=True) if _before(each) > 1}
        if len(wide) > 1:
            parts = " and ".join(f"{each.name} ({channels[each]})" for each in tensors)
            raise Q2Error(f"a residual of {parts} channels; widen both sides alike")
        return wide.pop()
    if name in CONCAT:
        if argument(node, 1, "dim", 0) % value.ndim == _dim(value):
            return sum(found)
        raise Q2Error("a concatenation along another dim than the channels cannot be widened")
    if name in ("flatten", "view", "reshape") or type(_module(graph, node)).__name__ == "Flatten":
        if value.ndim != 2 or value.shape[0] != first.shape[0]:
            raise Q2Error(f"{name} to {tuple(value.shape)} cannot be widened")
        if name in ("view", "reshape") and -1 not in node.args[1:] and not any(_is_free(a) for a in node.args[1:]):
            raise Q2Error(f"{name} names the number of channels, {math.prod(value.shape[1:])}; say -1")
        return int(value.shape[1] // _before(tensors[0]) * found[0])
    plain = name.lower() if node.op == "call_module" else name
    if plain in _SAME or plain.replace("2d", "").replace("1d", "") in ("maxpool", "avgpool", "adaptiveavgpool"):
        return found[0]
    raise Q2Error(f"{name} reads widened channels, and q2 does not know what becomes of them")


def _is_free(argument: object) -> bool:
    return isinstance(argument, tuple | list) and -1 in argument


def _module(graph: Graph, node: fx.Node) -> nn.Module | None:
    return graph.model.get_submodule(str(node.target)) if node.op == "call_module" else None
