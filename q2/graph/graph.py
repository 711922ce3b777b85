"""The graph: a traced denoiser over the real model, with its facts, its weight layers and its cost."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

import networkx as nx
import torch
from torch import fx, nn

from q2.errors import GuardError, Q2Error, TraceError, did_you_mean
from q2.graph.attention import Attention, find_attention
from q2.graph.choices import Choice, choices
from q2.graph.cost import PRODUCTS, costs
from q2.graph.editing import Edit, Edited
from q2.graph.equality import check_equal, has_no_data
from q2.graph.facts import Facts
from q2.graph.flow.contraction import flow_graph
from q2.graph.flow.ties import same_weights
from q2.graph.flow.units import Unit, find_units
from q2.graph.layers import Geometry, WeightLayer, layer_macs
from q2.graph.shared import shared_places
from q2.graph.tracing.guards import is_impure
from q2.graph.tracing.inputs import Call, forward_signature
from q2.graph.tracing.variant import Rewrite, Variant

__all__ = ["Graph"]

_MAX_VARIANTS = 32
_MAX_REMEMBERED = 256
_LOCK = threading.RLock()


class Graph:
    """A denoiser as a `torch.fx` graph; the diffusers model stays the root and its modules are the graph's.

    Made by `trace`. Called like the model, it returns what the model returns. A call that takes another path than the
    traced one (a guard fails, another argument structure) is traced once more, and that variant is kept.

    >>> from q2.graph import trace
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 2))
    >>> graph = trace(model, {"input": torch.zeros(3, 4)})
    >>> list(graph.weight_layers), graph.macs, graph.variants
    (['0', '2'], 144, 1)
    >>> graph(torch.zeros(5, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self, model: nn.Module, example_inputs: Mapping[str, object], *, leaf_types: tuple[type[nn.Module], ...] = ()
    ) -> None:
        self.model = model
        self.example_inputs: Mapping[str, object] = dict(example_inputs)
        self.facts = Facts()
        self._leaf_types = leaf_types
        self._signature = self.__signature__ = forward_signature(model)
        self._replaced: dict[str, Geometry] = {}
        self._shared: Mapping[str, str] | None = None
        self._layers: dict[str, WeightLayer] | None = None
        self._choices: dict[str, Choice] | None = None
        self._flow: nx.DiGraph[str] | None = None
        self._rewrites: dict[str, Rewrite] = {}
        self._served: dict[tuple[object, ...], Variant] = {}
        self._variants = [Variant(model, self._call((), self.example_inputs), leaf_types=leaf_types)]

    # What the graph knows:

    @property
    def fx(self) -> fx.Graph:
        """The graph of the first variant. Nodes carry `meta["val"]` (tensors on meta) and `meta["nn_module_stack"]`.

        After an edit call `recompile`; to drop dead code call `eliminate_dead_code` here, not fx's own.
        """
        return self._variants[0].fx

    @property
    def variants(self) -> int:
        """How many paths through the model have been traced."""
        return len(self._variants)

    @property
    def weight_layers(self) -> Mapping[str, WeightLayer]:
        """The weight layers by qualified name, in execution order.

        A layer that was replaced by another kind of module stays listed, with the geometry that it had.
        """
        if self._layers is None:
            self._layers = self._find_layers()
        return MappingProxyType(self._layers)

    def _find_layers(self) -> dict[str, WeightLayer]:
        layers: dict[str, WeightLayer] = {}
        for node in self.fx.nodes:
            for name, geometry, macs in self._computed_by(node):
                before = layers.get(name)
                total, calls = (before.macs + macs, before.calls + 1) if before else (macs, 1)
                layers[name] = WeightLayer(name, geometry, total, calls, self.model)
        return layers

    def _computed_by(self, node: torch.fx.Node) -> Iterator[tuple[str, Geometry, int]]:
        """Yield the weight layers that a node calls, with their multiply-accumulates; experts are inside theirs."""
        if node.op != "call_module":
            return
        geometry = self._geometry(str(node.target))
        if geometry is not None:
            yield str(node.target), geometry, layer_macs(node, geometry)
        for name, outputs in node.meta.get("weight_layers", {}).items():
            inside = self._geometry(name)
            if inside is not None:
                yield name, inside, outputs * math.prod(inside.shape[1:])

    def _geometry(self, name: str) -> Geometry | None:
        return Geometry.of(self.model.get_submodule(name)) or self._replaced.get(name)

    @property
    def choices(self) -> Mapping[str, Choice]:
        """The choices of a recipe: weight layers; a layer that reads a skip connection is split into two choices."""
        if self._choices is None:
            self._choices = choices(self.flow(), self.weight_layers)
        return MappingProxyType(self._choices)

    @property
    def attentions(self) -> list[Attention]:
        """Every attention between activations, fused or written out, in execution order."""
        return find_attention(self.model, self.fx.nodes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of weight layers and attention for the example inputs."""
        return sum(layer.macs for layer in self.weight_layers.values()) + self.attention_macs

    @property
    def attention_macs(self) -> int:
        """Multiply-accumulates between activations (attention, matrix products) for the example inputs."""
        costs = self.costs()
        return sum(costs[kind] for kind in PRODUCTS)

    def costs(self) -> dict[str, int]:
        """Return the multiply-accumulates outside the weight layers by kind; see `q2.graph.cost`."""
        return costs(self.model, self.fx.nodes)

    def flow(self) -> nx.DiGraph[str]:
        """Return the flow graph: weight layers, and the points where their flows meet; see `flow_graph`.

        >>> from q2.graph import trace
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 2))
        >>> list(trace(model, {"input": torch.zeros(3, 4)}).flow().edges)
        [('0', '2')]
        """
        if self._flow is None:
            geometries = {name: layer.geometry for name, layer in self.weight_layers.items()}
            self._flow = flow_graph(self.model, self.fx, geometries)
        return self._flow

    def units(self, patterns: Mapping[str, str] | None = None, *, ties: bool = True) -> list[Unit]:
        """Return the weight layers as units, in execution order; see `find_units`.

        With `ties`, layers with the same weights share one choice, so units of copies are one unit.
        """
        return find_units(self.flow(), self.model, patterns, self.ties() if ties else ())

    def ties(self) -> list[tuple[str, ...]]:
        """Return the groups of weight layers whose weights are the same, bit for bit, as the model holds them now."""
        return same_weights(self.weight_layers)

    # Running:

    def _call(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call:
        return Call.bind(self._signature, args, kwargs)

    def __call__(self, *args: Any, **inputs: Any) -> Any:
        """Run the graph on a call of the model; same arguments, same return types."""
        return self._run(self._call(args, inputs), tuple(self._rewrites.values()))

    def _run(self, call: Call, rewrites: tuple[Rewrite, ...]) -> object:
        for variant in self._candidates(call):
            try:
                return self._serve(variant, call, rewrites)
            except GuardError:
                continue
        return self._serve(self._trace_again(call), call, rewrites)

    def _candidates(self, call: Call) -> list[Variant]:
        """Variants that may serve a call; first the one that served such shapes before, since a guard can fail late."""
        shape, known = call.shape, self._served.get(call.sizes)
        fitting = [variant for variant in self._variants if variant.accepts(self.model, shape)]
        return sorted(fitting, key=lambda variant: variant is not known)

    def _serve(self, variant: Variant, call: Call, rewrites: tuple[Rewrite, ...]) -> object:
        output = variant.run(self.model, call, rewrites)
        if len(self._served) >= _MAX_REMEMBERED:
            self._served.clear()
        self._served[call.sizes] = variant
        return output

    def _trace_again(self, call: Call) -> Variant:
        with _LOCK:
            leaves = frozenset(self._replaced).union(*(variant.leaf_names for variant in self._variants))
            variant = Variant(self.model, call, leaf_types=self._leaf_types, leaf_names=leaves)
            if len(self._variants) >= _MAX_VARIANTS:
                del self._variants[1]
            self._variants.append(variant)
            return variant

    def placeholder_values(self, *args: object, **inputs: object) -> tuple[object, ...]:
        """Return a call's values for the placeholders of `fx`, in their order: what an `fx.Interpreter` is run with.

        Raises TraceError when the call's structure is not the one that was traced.
        """
        call = self._call(args, inputs)
        if not self._variants[0].accepts(self.model, call.shape):
            raise TraceError(
                f"graph of {type(self.model).__name__}: the call has another structure than the example inputs"
            )
        return self._variants[0].placeholder_values(call)

    def traced_for(self, *args: object, **inputs: object) -> tuple[torch.fx.Graph, tuple[object, ...]]:
        """Return the graph that a call runs on, traced if there is none yet, and the values of its placeholders.

        Whether the guards of the graph hold shows only when it runs.
        """
        call = self._call(args, inputs)
        variant = next(iter(self._candidates(call)), None) or self._trace_again(call)
        return variant.fx, variant.placeholder_values(call)

    @property
    def is_installed(self) -> bool:
        """Return whether calls of the model execute this graph."""
        return self.model.__dict__.get("forward") is self

    def install(self) -> nn.Module:
        """Make `model(...)` execute the graph, so that a pipeline runs it; returns the model.

        Hooks on the model and on its leaf modules fire as before. Raises Q2Error when something else has replaced the
        model's forward (an offloading hook, another graph).
        """
        current = self.model.__dict__.get("forward")
        if current is not None and current is not self:
            found = type(current).__name__
            raise Q2Error(f"install graph of {type(self.model).__name__}: forward is already replaced by a {found}")
        self.model.forward = self
        return self.model

    def uninstall(self) -> None:
        """Give the model its own forward back; nothing happens where the graph is not installed."""
        if self.is_installed:
            del self.model.__dict__["forward"]

    @contextlib.contextmanager
    def installed(self) -> Iterator[nn.Module]:
        """Install the graph for the length of a `with`; yields the model."""
        before = self.is_installed
        try:
            yield self.install()
        finally:
            if not before:
                self.uninstall()

    # Changing:

    def replace(self, name: str, module: nn.Module) -> None:
        """Put a module in the place of another by qualified name; all variants use it from the next call on.

        One that sits at several places of the model is replaced at all of them.

        Raises Q2Error for a name that the model has not, and for a module whose forward is part of the graph: such a
        one is no node that could be swapped (name its class in `leaf_types`, or replace its layers).
        """
        title = f"replace {name!r} in {type(self.model).__name__}"
        try:
            old = self.model.get_submodule(name)
        except AttributeError:
            known = [path for path, _ in self.model.named_modules()]
            raise Q2Error(f"{title}: no such module{did_you_mean(name, known)}") from None
        if not name or any(name in variant.traced_through for variant in self._variants):
            raise Q2Error(f"{title}: its forward is part of the graph; replace its layers, or make it a leaf type")
        geometry = self._geometry(name)
        if geometry is not None:
            self._replaced[name] = geometry
        if self._shared is None:
            self._shared = shared_places(self.model)
        name = self._shared.get(name, name)
        for place in (name, *(each for each, first in self._shared.items() if first == name)):
            parent, _, attribute = place.rpartition(".")
            setattr(self.model.get_submodule(parent), attribute, module.train(old.training))
        if self._geometry(name) != geometry:
            self._layers = self._flow = self._choices = None

    def retrace(self, example_inputs: Mapping[str, object] | None = None) -> None:
        """Trace the model anew, as it is now, with its own example inputs or others; what replaced a module stays one.

        Facts stay: the pass that has changed the model drops them. Raises TraceError, and leaves the graph as it was.
        """
        inputs = dict(self.example_inputs if example_inputs is None else example_inputs)
        leaves = frozenset(self._replaced).union(*(variant.leaf_names for variant in self._variants))
        there = {name for name, _ in self.model.named_modules()}
        call = self._call((), inputs)
        variant = Variant(self.model, call, leaf_types=self._leaf_types, leaf_names=leaves & there)
        self.example_inputs, self._variants = inputs, [variant]
        self._replaced = {name: geometry for name, geometry in self._replaced.items() if name in there}
        self._served.clear()
        self.recompile()

    @property
    def rewrites(self) -> Mapping[str, Rewrite]:
        """What is done to the graph before it is executed, by name; see `rewrite`."""
        return MappingProxyType(self._rewrites)

    def rewrite(self, name: str, change: Rewrite | None) -> None:
        """Execute every variant, also one traced later, as `change` makes it; None takes the one of this name back.

        `change` is given the model and a copy of the variant's graph, which it edits. `fx` stays as it was traced, so
        that what is learnt from it (flow, MACs, equality with the model) stays true.
        """
        self._rewrites = {key: value for key, value in self._rewrites.items() if key != name}
        if change is not None:
            self._rewrites[name] = change
        for variant in self._variants:
            variant.recompile()

    def edit(self, name: str, change: Callable[[Edit], object] | None) -> None:
        """Rewrite the graph by inserting, replacing and removing nodes, its guards kept; None takes it back.

        `change` is given an `Edit`, and is tried at once: raises TraceError, and leaves the graph as it was, for what
        cannot be done.
        """
        before = self._rewrites.get(name)
        self.rewrite(name, None if change is None else Edited(change))
        try:
            self.executed()
        except BaseException:
            self.rewrite(name, before)
            raise

    def executed(self) -> torch.fx.Graph:
        """Return the graph of the first variant as it is executed: `fx` itself, or a copy with the rewrites made."""
        return self._variants[0].executed(self.model, tuple(self._rewrites.values()))

    def eliminate_dead_code(self) -> bool:
        """Drop nodes of `fx` that nothing uses, but keep guards and writes in place; say whether there were any."""
        changed = self.fx.eliminate_dead_code(is_impure_node=is_impure)
        self.recompile()
        return changed

    def recompile(self) -> None:
        """Make the next call see edits of `fx`."""
        self._layers = self._flow = self._choices = None
        for variant in self._variants:
            variant.recompile()

    # Checking:

    def lint(self) -> None:
        """Raise TraceError when a variant is malformed or names a module or tensor that the model has not."""
        for variant in self._variants:
            variant.lint(self.model)

    def verify(self, inputs: Mapping[str, object] | None = None, rtol: float = 0) -> None:
        """Raise TraceError unless the graph is well formed and its outputs are the model's own, rewrites left aside.

        `inputs` default to the example inputs. `rtol` is relative to the largest output; 0 asks for equality. A model
        or inputs without data (on meta) are checked for form only.
        """
        self.recompile()
        self.lint()
        arguments = self.example_inputs if inputs is None else inputs
        if has_no_data(arguments) or any(weight.is_meta for weight in self.model.parameters()):
            return
        call = self._call((), arguments)
        bound = self._signature.bind(**arguments)
        if "return_dict" in self._signature.parameters:
            bound.arguments["return_dict"] = call.return_dict
        with torch.no_grad(), torch.random.fork_rng():
            state = torch.random.get_rng_state()
            eager = type(self.model).forward(self.model, *bound.args, **bound.kwargs)
            torch.random.set_rng_state(state)
            traced = self._run(self._call((), arguments), ())
        check_equal(type(self.model).__name__, eager, traced, rtol)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_layers": None, "_served": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for variant in self._variants:
            variant.fx.owning_module = cast("fx.GraphModule", self.model)

    def __repr__(self) -> str:
        name, nodes = type(self.model).__name__, len(self.fx.nodes)
        return f"Graph({name}, {nodes} nodes, {len(self.weight_layers)} weight layers, {self.variants} variants)"
