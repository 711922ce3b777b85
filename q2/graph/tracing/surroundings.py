"""What surrounds a trace: shadow values on the right device, patched factories, and a model that is left as it was."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from q2.graph.tracing.proxy import ShadowProxy

__all__ = [
    "computed_weights",
    "model_state_kept",
    "on_one_device",
    "recorded_factories",
    "stand_in",
    "without_data",
    "zeros",
]

_FACTORIES = (
    "arange",
    "as_tensor",
    "empty",
    "eye",
    "full",
    "linspace",
    "logspace",
    "ones",
    "rand",
    "randint",
    "randn",
    "randperm",
    "scalar_tensor",
    "tensor",
    "tril_indices",
    "triu_indices",
    "zeros",
)
_TYPE_QUERIES = ("finfo", "iinfo")
_SCALAR_OR_TENSOR = (  # their argument parser takes a proxy in a number's place for a tensor, and crashes
    "bitwise_and",
    "bitwise_left_shift",
    "bitwise_or",
    "bitwise_right_shift",
    "bitwise_xor",
    "float_power",
    "isin",
    "pow",
    "remainder",
    "result_type",
    "where",
    "xlogy",
)
_META = torch.device("meta")
_CPU = torch.device("cpu")


def stand_in(tensor: torch.Tensor) -> torch.Tensor:
    """Return a stand-in of the same shape for a tensor of the model: weights without data, buffers copied to the CPU.

    Buffers keep their data, since models branch on them. Weights are large, and no branch should depend on them.
    """
    if isinstance(tensor, nn.Parameter) or tensor.is_meta:
        return tensor.detach().to(_META)
    return tensor.detach().to(_CPU, copy=True)


def without_data(value: object) -> object:
    """Replace every tensor in a nested value by one on the meta device: shape and dtype stay, memory goes."""
    return pytree.tree_map(lambda leaf: leaf.to(_META) if isinstance(leaf, torch.Tensor) else leaf, value)


def zeros(value: Any, device: torch.device) -> Any:
    """Replace every tensor in a nested value by zeros that are on a device."""
    return pytree.tree_map(
        lambda leaf: torch.zeros_like(leaf, device=device) if isinstance(leaf, torch.Tensor) else leaf, value
    )


def on_one_device(
    target: object, args: tuple[Any, ...], kwargs: dict[str, Any], *, opaque: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Bring the shadow arguments of a call together: all to meta where one is there (or `opaque`), else to the CPU.

    The index of an item access keeps its data, since a tensor without data may index none that has any.
    """
    if target is getattr:
        return args, kwargs
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    device = _META if opaque or any(t.is_meta or isinstance(t, nn.Parameter) for t in tensors) else _CPU

    def place(leaf: Any) -> Any:
        if isinstance(leaf, torch.device):
            return device
        if not isinstance(leaf, torch.Tensor) or leaf.device == device or _is_size(leaf):
            return leaf
        return leaf.detach().to(device)

    if device is _META and target in ("repeat_interleave", torch.repeat_interleave):
        kwargs = _with_output_size(args, kwargs)
    if target in (operator.getitem, operator.setitem):
        return (place(args[0]), args[1], *map(place, args[2:])), kwargs
    if isinstance(kwargs.get("device"), str):
        kwargs = {**kwargs, "device": device}
    moved: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map(place, (args, kwargs))
    return moved


def _is_size(tensor: torch.Tensor) -> bool:
    """Return whether a tensor may stand for a length; torch takes one beside tensors without data."""
    return tensor.ndim == 0 and tensor.dtype in (torch.int32, torch.int64) and not isinstance(tensor, nn.Parameter)


def _with_output_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a repetition with its length if the counts have data: torch cannot know it on meta."""
    counts = kwargs.get("repeats", args[1] if len(args) > 1 else None)
    if isinstance(counts, torch.Tensor) and not counts.is_meta and counts.numel() > 1:
        return {"output_size": int(counts.sum()), **kwargs}
    return kwargs


class Recorder(Protocol):
    """What the patched factories need of a tracer."""

    @property
    def recording(self) -> bool:
        """True while the traced model's own code runs, in the thread that traces."""
        ...

    def create_proxy(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], /) -> Any:
        """Add a node to the graph."""
        ...

    def paused(self) -> contextlib.AbstractContextManager[None]:
        """Record nothing within the `with`."""
        ...


_ENCODABLE = (int, float, complex, str, torch.Tensor, torch.dtype, torch.device, torch.layout, np.generic)


def _recorded(recorder: Recorder, original: Callable[..., Any], *, only_proxies: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    def factory(*args: Any, **kwargs: Any) -> Any:
        if not recorder.recording:
            return original(*args, **kwargs)
        leaves = pytree.tree_leaves((args, kwargs))
        if not all(leaf is None or type(leaf) is ShadowProxy or isinstance(leaf, _ENCODABLE) for leaf in leaves):
            return original(*args, **kwargs)  # a NumPy array, a generator: no node can hold it
        if only_proxies and not any(type(leaf) is ShadowProxy for leaf in leaves):
            return original(*args, **kwargs)
        return recorder.create_proxy("call_function", original, args, kwargs)

    return factory


@contextlib.contextmanager
def recorded_factories(recorder: Recorder) -> Iterator[None]:
    """Make torch.arange, torch.zeros, … record nodes: they take no tensor, so a proxy cannot dispatch them itself."""
    originals = {name: getattr(torch, name) for name in (*_FACTORIES, *_TYPE_QUERIES, *_SCALAR_OR_TENSOR)}
    try:
        for name, original in originals.items():
            setattr(torch, name, _recorded(recorder, original, only_proxies=name in _SCALAR_OR_TENSOR))
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


@contextlib.contextmanager
def computed_weights(recorder: Recorder, model: nn.Module) -> Iterator[None]:
    """Let a forward read a layer's weight that is computed, as packed layers do: a constant, and no nodes for it."""
    kinds = {type(module) for module in model.modules()}
    found = {kind: read for kind in kinds if isinstance(read := inspect.getattr_static(kind, "weight", None), property)}

    def plain(read: property) -> property:
        def weight(layer: nn.Module) -> Any:
            if not recorder.recording:
                return read.__get__(layer)
            with recorder.paused():
                return read.__get__(layer)

        return property(weight)

    own = {kind: "weight" in vars(kind) for kind in found}
    try:
        for kind, read in found.items():
            setattr(kind, "weight", plain(read))  # noqa: B010 (a property of whichever class it is)
        yield
    finally:
        for kind, read in found.items():
            if own[kind]:
                setattr(kind, "weight", read)  # noqa: B010
            else:
                delattr(kind, "weight")


@contextlib.contextmanager
def model_state_kept(model: nn.Module) -> Iterator[None]:
    """Undo what a forward leaves behind in its modules: cached tensors, counters, re-registered buffers."""
    saved = [(owner.__dict__, dict(owner.__dict__), _containers(owner.__dict__)) for owner in _owners(model)]
    try:
        yield
    finally:
        for now, attributes, containers in saved:
            for container, content in containers:
                _restore(container, content)
            if _differs(now, attributes):
                now.clear()
                now.update(attributes)


def _owners(model: nn.Module) -> list[Any]:
    """Return the modules, and the plain objects that they hold (rotary embeddings, attention processors)."""
    found: dict[int, Any] = {id(module): module for module in model.modules()}
    todo = list(found.values())
    while todo:
        for value in todo.pop().__dict__.values():
            plain = hasattr(value, "__dict__") and not isinstance(value, _NO_OWNERS)
            if plain and id(value) not in found:
                found[id(value)] = value
                todo.append(value)
    return list(found.values())


_NO_OWNERS = (torch.Tensor, type, ModuleType, FunctionType, MethodType, dict, list, functools.partial)
_Container = dict[Any, Any] | list[Any]


def _containers(attributes: dict[str, Any]) -> list[tuple[_Container, _Container]]:
    return [(value, value.copy()) for value in attributes.values() if type(value) in (dict, list, OrderedDict)]


def _differs(now: dict[Any, Any], then: dict[Any, Any]) -> bool:
    return len(now) != len(then) or any(key not in now or now[key] is not value for key, value in then.items())


def _restore(container: _Container, content: _Container) -> None:
    if isinstance(container, dict) and isinstance(content, dict):
        if _differs(container, content):
            container.clear()
            container.update(content)
    elif isinstance(container, list) and isinstance(content, list):
        container[:] = content
