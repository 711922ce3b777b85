"""One traced variant of a model: its graph, the calls it fits, and the forward that executes it on the live modules."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import fx, nn

from q2.errors import TraceError
from q2.graph.tracing.autocast import autocast_kept, has_autocast
from q2.graph.tracing.guards import check_guards, guards_of
from q2.graph.tracing.inputs import Call, CallShape
from q2.graph.tracing.record import Recording, record

__all__ = ["Rewrite", "Variant"]

Rewrite = Callable[[nn.Module, fx.Graph], None]
"""Edits a copy of a variant's graph, given the model, before it is executed."""


@dataclass(frozen=True)
class ModelState:
    """What a trace reads off the model itself: train or eval mode, dtype, and device where the graph names one."""

    training: bool
    dtype: torch.dtype | None
    device: torch.device | None

    @classmethod
    def of(cls, model: nn.Module, *, device_bound: bool) -> ModelState:
        """Read the state; the first floating-point parameter speaks for dtype and device."""
        first = next((weight for weight in model.parameters() if weight.is_floating_point()), None)
        if first is None:
            return cls(model.training, None, None)
        return cls(model.training, first.dtype, first.device if device_bound else None)


class Variant:
    """A graph traced for one call, and able to run every call that keeps the trace's decisions."""

    def __init__(
        self,
        model: nn.Module,
        call: Call,
        *,
        leaf_types: tuple[type[nn.Module], ...] = (),
        leaf_names: Collection[str] = (),
    ) -> None:
        self._recording: Recording = record(model, call, leaf_types=leaf_types, leaf_names=leaf_names)
        self._shape: CallShape = call.shape
        self._casts = has_autocast(self.fx)
        self._device_bound = any(_names_device(node) for node in self.fx.nodes)
        self._state = ModelState.of(model, device_bound=self._device_bound)
        self._forwards: dict[bool, Callable[..., object]] = {}

    @property
    def fx(self) -> fx.Graph:
        """The graph; after an edit call `recompile`."""
        return self._recording.graph

    @property
    def constants(self) -> tuple[torch.Tensor, ...]:
        """Tensors of any shape that the model made from data no node can hold; inputs of the graph after the call's."""
        return self._recording.constants

    @functools.cached_property
    def leaf_names(self) -> frozenset[str]:
        """Names of the modules that are one node each."""
        return frozenset(str(node.target) for node in self.fx.nodes if node.op == "call_module")

    @functools.cached_property
    def traced_through(self) -> frozenset[str]:
        """Names of the modules that are many nodes: their forwards are part of the graph."""
        stacks = (node.meta.get("nn_module_stack", {}) for node in self.fx.nodes)
        return frozenset(path for stack in stacks for path, _ in stack.values()) - self.leaf_names

    def accepts(self, model: nn.Module, shape: CallShape) -> bool:
        """Return whether a call may run here; its guards can still say no."""
        return self._state == ModelState.of(model, device_bound=self._device_bound) and self._shape.accepts(shape)

    def placeholder_values(self, call: Call) -> tuple[object, ...]:
        """Return a call's values for the graph's placeholders, in their order."""
        return (*call.symbolic, *self.constants)

    def run(self, model: nn.Module, call: Call, rewrites: Sequence[Rewrite] = ()) -> object:
        """Execute the graph on the model's modules; raises GuardError where the call leaves the traced path.

        Where there are rewrites a copy of the graph is executed, as they make it; they may change after `recompile`.
        """
        forward = self._forwards.get(bool(rewrites))
        if forward is None:
            forward = self._forwards[bool(rewrites)] = _compiled(model, self.executed(model, rewrites))
        with autocast_kept() if self._casts else contextlib.nullcontext():
            values = forward(model, *self.placeholder_values(call))
        if self._recording.output is None:
            return values
        output_class, names = self._recording.output
        fields = cast("tuple[object, ...]", values)
        return output_class(**dict(zip(names, fields, strict=True))) if call.return_dict else fields

    def executed(self, model: nn.Module, rewrites: Sequence[Rewrite] = ()) -> torch.fx.Graph:
        """Return the graph, or a copy of it as `rewrites` make it. Raises TraceError if one of them loses a guard."""
        graph = copy.deepcopy(self.fx) if rewrites else self.fx
        guards = guards_of(graph) if rewrites else {}
        for rewrite in rewrites:
            rewrite(model, graph)
        check_guards(guards, graph, f"graph of {type(model).__name__}")
        return graph

    def recompile(self) -> None:
        """Forget the compiled forward, so that the next run sees an edited graph, or other rewrites."""
        self._forwards = {}
        for cached in ("leaf_names", "traced_through"):
            self.__dict__.pop(cached, None)

    def lint(self, model: nn.Module) -> None:
        """Raise TraceError when the graph is malformed or names something that the model has not."""
        self.fx.owning_module = cast("fx.GraphModule", model)
        try:
            self.fx.lint()
        except (RuntimeError, ValueError) as error:
            line = next(iter(str(error).splitlines()), "")
            raise TraceError(f"graph of {type(model).__name__}: {line}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_forwards": {}}


def _compiled(model: nn.Module, graph: fx.Graph) -> Callable[..., object]:
    """Return the graph as a function of the model and the placeholders.

    A GraphModule's generated forward only looks attributes up on its `self`; given the model itself, it runs on the
    live submodules, whatever has been swapped in since.
    """
    owner = graph.owning_module
    try:
        return cast("Callable[..., object]", type(fx.GraphModule(model, graph)).forward)
    finally:
        graph.owning_module = owner


def _names_device(node: fx.Node) -> bool:
    found: list[torch.device] = []

    def visit(argument: Any) -> Any:
        if isinstance(argument, torch.device):
            found.append(argument)
        return argument

    fx.node.map_aggregate((node.args, node.kwargs), visit)
    return bool(found)
