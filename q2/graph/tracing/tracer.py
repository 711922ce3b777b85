"""The tracer: run a model's own Python once on proxies that carry values, and keep every operation as a node."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import fx, nn
from torch.func import functional_call

from q2.errors import TraceError
from q2.graph.layers import WEIGHT_TYPES
from q2.graph.tracing.experts import shared_evenly, structure, zero_weights
from q2.graph.tracing.guards import guard, guard_length, writes_in_place
from q2.graph.tracing.inputs import Call, forward_signature, is_symbolic
from q2.graph.tracing.opaque import Opaque
from q2.graph.tracing.proxy import Concretizer, ShadowProxy, TracedString, shadow_of
from q2.graph.tracing.surroundings import on_one_device, stand_in, without_data, zeros

__all__ = ["DataDependentError", "ShadowTracer"]

_VALUE_READERS = frozenset({
    "item", "tolist", "nonzero", "numpy", "bool", "int", "float", "unique", "masked_select", "bincount",
})  # fmt: skip


class DataDependentError(TraceError):
    """Python asked for a value that depends on weights, which a trace has not."""


class ShadowTracer(Concretizer):
    """An fx.Tracer whose proxies know their values for the example call.

    Shapes, dtypes, devices and numbers stay symbolic; every decision on a value becomes a guard node. An operation
    that sees a weight runs without data, so a trace costs no arithmetic, whatever the model's size.
    """

    proxy_buffer_attributes = True

    def __init__(
        self,
        call: Call,
        leaf_types: tuple[type[nn.Module], ...] = (),
        leaf_names: frozenset[str] = frozenset(),
        routed: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.routed = routed
        self.constants: list[torch.Tensor] = []
        self.output: tuple[Callable[..., object], tuple[str, ...]] | None = None
        self.failed_at = ""
        self._example = call
        self._leaf_types = (*WEIGHT_TYPES, *leaf_types)
        self._leaf_names = leaf_names
        self._thread = threading.get_ident()
        self._evaluating = 0
        self._finished = False
        self._leaf_has_data = False
        self._device = _run_device(call)
        self._names: dict[int, str] = {}
        self._guarded: set[fx.Node] = set()
        self._inside: list[tuple[nn.Module, object]] = []
        self._ran_on_zeros: dict[object, tuple[object, list[tuple[str, object]]]] = {}
        self._interned: dict[int, ShadowProxy] = {}
        self._originals: list[torch.Tensor] = []  # kept alive, since they are known by their ids
        self._last_input: fx.Node | None = None

    # Inputs and output:

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Make a placeholder for every tensor and number among the inputs; other inputs are passed unchanged.

        Raises `TraceError` if there is no tensor among them.
        """
        model = self.root
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._names[id(tensor)] = name
        leaves = tuple(
            self._placeholder(name, leaf) if is_symbolic(leaf) else leaf
            for name, leaf in zip(self._example.names, self._example.leaves, strict=True)
        )
        if self._last_input is None:
            raise TraceError("no tensor among the inputs")
        bound = self._example.arguments(leaves, forward_signature(model))

        def forward() -> object:
            return self._unwrap(root_fn(model, *bound.args, **bound.kwargs))

        return forward, []

    def _placeholder(self, name: str, value: object) -> ShadowProxy:
        if isinstance(value, torch.Tensor) and not value.is_meta:
            value = value.detach().to("cpu", copy=True)
        proxy = self._with_value(super().create_proxy("placeholder", name, (), {}), value)
        self._last_input = proxy.node
        return proxy

    def _unwrap(self, output: object) -> object:
        """Take a diffusers output apart, so that one graph serves `return_dict` True and False."""
        if isinstance(output, OrderedDict) and is_dataclass(output):
            self.output = (type(output), tuple(output.keys()))
            return tuple(output.values())
        return output

    # Values:

    @property
    def recording(self) -> bool:
        """True while the model's own code runs in the tracing thread."""
        return not self._evaluating and threading.get_ident() == self._thread

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing within the `with`, where tensors have their data: it is no part of the model's own code."""
        has_data, self._leaf_has_data = self._leaf_has_data, True
        self._evaluating += 1
        try:
            yield
        finally:
            self._evaluating -= 1
            self._leaf_has_data = has_data

    def finish(self) -> None:
        """Take no more nodes: a value that the model has kept is an error from now on, and no part of the graph."""
        self._finished = True

    def proxy(self, node: fx.Node) -> ShadowProxy:
        """Wrap a node (fx calls this)."""
        return ShadowProxy(node, self)

    def _with_value(self, proxy: fx.Proxy, value: object) -> ShadowProxy:
        shadow = cast("ShadowProxy", proxy)
        shadow.shadow_value = shadow.node.meta["val"] = value
        return shadow

    def create_proxy(  # noqa: PLR0917  # fx.Tracer's signature
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Any = None,
    ) -> ShadowProxy:
        """Compute the value of an operation, then add its node. Raises `TraceError` after the trace has ended."""
        self._inside.clear()
        if self._finished:
            raise TraceError(f"{type(self.root).__name__} has kept a value of a trace that is over")
        value = self._evaluate(kind, target, args, kwargs)
        written = args[0] if args and writes_in_place(kind, target, kwargs) else None
        if type(written) is ShadowProxy and isinstance(value, torch.Tensor) and value.is_meta:
            written.shadow_value = written.shadow_value.to("meta")
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        if kind == "call_module" and target in self.routed:
            proxy.node.meta["weight_layers"] = shared_evenly(self.root, target, self._inside)
        return self._with_value(proxy, value)

    def _evaluate(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        shadow_args, shadow_kwargs = cast("Any", fx.node.map_aggregate((args, kwargs), cast("Any", shadow_of)))
        values, named = on_one_device(target, tuple(shadow_args), dict(shadow_kwargs), opaque=kind == "call_module")
        if target is getattr and isinstance(values[0], torch.Tensor):
            return self._attribute(values[0], values[1])
        self._evaluating += 1
        try:
            if kind == "call_module":
                return self._leaf(target, values, named)
            if kind == "call_method":
                return getattr(values[0], target)(*values[1:], **named)
            function = target.shadow if isinstance(target, Opaque) else target
            return function(*values, **named)
        except (RuntimeError, NotImplementedError) as error:
            reader = target if isinstance(target, str) else getattr(target, "__name__", str(target))
            if reader in _VALUE_READERS and "meta" in str(error).lower():
                raise DataDependentError(
                    f"data-dependent control flow: {reader}() of a value that depends on weights"
                ) from error
            raise
        finally:
            self._evaluating -= 1

    def _leaf(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        """Run a leaf without data; one that needs data (a kernel of its own, a decision) on zeros."""
        module = self.root.get_submodule(path)
        key = (structure(module), str(args), str(kwargs)) if self._ran_on_zeros else None
        if key in self._ran_on_zeros:
            output, inside = self._ran_on_zeros[key]
            self._inside = [(module.get_submodule(name), value) for name, value in inside]
            return output
        try:
            return module.forward(*args, **kwargs)
        except Exception:
            weights = zero_weights(module)
            own = [*module.parameters(), *module.buffers()]
            if not own or (weights and path not in self.routed):
                raise
            device = torch.device("cpu") if weights else own[0].device
            output = without_data(self._on_zeros(module, weights, zeros(args, device), zeros(kwargs, device)))
            names = {inner: name for name, inner in module.named_modules()}
            key = (structure(module), str(args), str(kwargs))
            self._ran_on_zeros[key] = output, [(names[m], without_data(v)) for m, v in self._inside if m in names]
            return output

    def _on_zeros(self, module: nn.Module, weights: dict[str, torch.Tensor], args: Any, kwargs: Any) -> object:
        self._leaf_has_data = True
        self._inside.clear()
        try:
            return functional_call(module, weights, args, kwargs)
        finally:
            self._leaf_has_data = False

    def _attribute(self, tensor: torch.Tensor, name: str) -> object:
        """Read a tensor's attribute as it will be in the run: shadows are elsewhere than the tensors they stand for."""
        if name == "device":
            return self._device
        if name in ("is_cpu", "is_cuda", "is_mps", "is_xpu", "is_meta"):
            return self._device.type == name.removeprefix("is_")
        return getattr(tensor, name)

    # Decisions:

    def concrete(self, proxy: ShadowProxy, convert: type[bool] | type[int] | type[float]) -> bool | int | float:
        """Give Python the real value it asks for; the graph gets a guard that it is the same when run."""
        if type(proxy.shadow_value) is not convert:
            proxy = self.create_proxy("call_function", convert, (proxy,), {})
        if proxy.node not in self._guarded:
            self._guarded.add(proxy.node)
            self.create_node("call_function", guard, (proxy.node, proxy.shadow_value), {})
        return convert(proxy.shadow_value)

    def concrete_length(self, proxy: ShadowProxy) -> int:
        """Give Python a length; only a shape's, which is a rank, goes without a guard."""
        length = len(proxy.shadow_value)
        if not isinstance(proxy.shadow_value, torch.Size) and proxy.node not in self._guarded:
            self._guarded.add(proxy.node)
            self.create_node("call_function", guard_length, (proxy.node, length), {})
        return length

    # Modules, parameters, constants:

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keep as one node: modules of torch.nn, weight layers, what the caller names, what replaced a leaf."""
        named = module_qualified_name in self._leaf_names | self.routed
        return named or isinstance(m, self._leaf_types) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace through a module or make it a node; inside a leaf, and in other threads, just run it."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        if self._evaluating:
            output = m.forward(*args, **kwargs)  # not through __call__: hooks are for real values
            self._inside.append((m, output))
            return output
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_at = self.failed_at or (self.submodule_paths or {}).get(m, type(m).__name__)
            raise

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Make a module's tensor a get_attr node; inside a leaf give it without data."""
        if not isinstance(attr_val, torch.Tensor) or threading.get_ident() != self._thread:
            return attr_val
        if self._evaluating:
            return attr_val if self._leaf_has_data else attr_val.detach().to("meta")
        return self._interned_tensor(attr_val) if id(attr_val) in self._names else attr_val

    def create_arg(self, a: Any) -> Any:
        """Turn an argument into what a node holds; tensors become get_attr nodes or inputs of their own."""
        if type(a) is ShadowProxy:
            return a.node
        if type(a) is TracedString:
            return a.proxy.node
        if isinstance(a, np.generic):
            return a.item()
        if isinstance(a, torch.Tensor):
            return self._interned_tensor(a).node
        return super().create_arg(a)

    def _interned_tensor(self, tensor: torch.Tensor) -> ShadowProxy:
        known = self._interned.get(id(tensor))
        if known is not None:
            return known
        name = self._names.get(id(tensor)) or cast("Mapping[Any, str]", self.tensor_attrs).get(tensor)
        if name:
            proxy = self._with_value(super().create_proxy("get_attr", name, (), {}), stand_in(tensor))
        else:
            assert self._last_input is not None  # create_args_for_root has checked it
            self.constants.append(tensor.detach())
            self._originals.append(tensor)
            with self.graph.inserting_after(self._last_input):
                made = super().create_proxy("placeholder", f"constant_{len(self.constants)}", (), {})
            self._last_input = made.node
            proxy = self._with_value(made, tensor)
        self._interned[id(tensor)] = proxy
        return proxy


def _run_device(call: Call) -> torch.device:
    """Where the call's tensors are; a call without data stands for one on the CPU."""
    devices = [leaf.device for leaf in call.leaves if isinstance(leaf, torch.Tensor)]
    real = (device for device in devices if device.type != "meta")
    return next(real, torch.device("cpu"))
