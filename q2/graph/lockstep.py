"""Many calls of a model at once, node by node, with the weights of full precision and with those in place."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from q2.graph.graph import Graph
from q2.graph.tracing.autocast import autocast_kept, has_autocast
from q2.graph.tracing.guards import writes_in_place
from q2.progress import Progress, silent

__all__ = ["Lockstep", "ModelCall", "Pair"]

ModelCall = tuple[tuple[Any, ...], Mapping[str, Any]]
"""The arguments of a call of the model, by position and by name."""
Pair = tuple[Tensor, Tensor]
"""A tensor as it was at full precision, and as it is; the same one where nothing before it has changed."""


@dataclass(eq=False)
class _Values:
    """What a call has computed and still needs, by node; `now` has only what differs."""

    exact: dict[fx.Node, Any] = field(default_factory=dict)
    now: dict[fx.Node, Any] = field(default_factory=dict)

    def __getitem__(self, node: fx.Node) -> tuple[Any, Any]:
        return self.exact[node], self.now.get(node, self.exact[node])


class Lockstep:
    """Runs `calls` through a graph together: every node for all calls before the next node.

    `exact` returns a module's parameters at full precision, by name and of the same shapes, if they differ now;
    rewrites of the graph are ignored. All calls take the same path through the model; calls on another path are left
    out. The memory needed is twice what the calls hold between two nodes.
    """

    def __init__(self, graph: Graph, calls: Sequence[ModelCall], exact: Callable[[str], Mapping[str, Tensor]]) -> None:
        self.graph, self._exact = graph, exact
        traced = [graph.traced_for(*args, **inputs) for args, inputs in calls]
        (self._fx, _), *_ = Counter(path for path, _ in traced).most_common()
        self.calls = [values for path, values in traced if path is self._fx]
        self._interpreter = fx.Interpreter(graph.model, graph=self._fx)
        self._last = _last_uses(self._fx)
        self._writes = any(writes_in_place(node.op, node.target, node.kwargs) for node in self._fx.nodes)

    def run(self, visit: Callable[[str, Sequence[Pair]], None], progress: Progress = silent) -> None:
        """Compute all nodes; before a weight layer runs for the first time, `visit` is given its inputs.

        These are pairs of tensors (batch, ...), one pair for each call: at full precision and as computed now. `visit`
        may change the layer's weight in place, which all later nodes see. Layers inside a module that is one node, such
        as experts, are not visited.
        """
        nodes, layers, seen = list(self._fx.nodes), self.graph.weight_layers, set[str]()
        held = self._started()
        with autocast_kept() if has_autocast(self._fx) else nullcontext(), torch.no_grad():
            for node in progress(nodes, "calibrate", len(nodes)):
                name = str(node.target)
                if node.op == "call_module" and name in layers and name not in seen:
                    seen.add(name)
                    read = node.args[0] if node.args else node.kwargs["input"]
                    assert isinstance(read, fx.Node)
                    visit(name, [values[read] for values in held])
                self._compute(node, held)

    def peak_bytes(self) -> int:
        """Return the most bytes of tensors that the first call needs between two nodes, in one of the two ways."""
        values, most = self._started(1, both=False), 0
        with autocast_kept() if has_autocast(self._fx) else nullcontext(), torch.no_grad():
            for node in self._fx.nodes:
                self._compute(node, values, both=False)
                most = max(most, _bytes(values[0].exact.values()))
        return most

    def _started(self, calls: int | None = None, *, both: bool = True) -> list[_Values]:
        """Return the values of the placeholders; a graph that writes in place shares none of them."""
        places = [node for node in self._fx.nodes if node.op == "placeholder"]
        found = []
        for call in self.calls[:calls]:
            exact, now = (_copied(call) if self._writes else call for _ in range(2))
            values = _Values(dict(zip(places, exact, strict=True)))
            if self._writes and both:
                values.now.update(zip(places, now, strict=True))
            found.append(values)
        return found

    def _compute(self, node: fx.Node, held: Sequence[_Values], *, both: bool = True) -> None:
        if node.op in ("placeholder", "output"):
            return
        before = self._exact(str(node.target)) if node.op == "call_module" and both else {}
        for values in held:
            args, kwargs = _looked_up(node, lambda each: values[each][0])  # noqa: B023 (used at once)
            if before:
                module: nn.Module = self.graph.model.get_submodule(str(node.target))
                values.exact[node] = torch.func.functional_call(module, dict(before), args, kwargs)
            else:
                values.exact[node] = getattr(self._interpreter, node.op)(node.target, args, kwargs)
            if both and (before or self._writes or any(each in values.now for each in node.all_input_nodes)):
                args, kwargs = _looked_up(node, lambda each: values[each][1])  # noqa: B023
                values.now[node] = getattr(self._interpreter, node.op)(node.target, args, kwargs)
            for each in self._last[node]:
                values.exact.pop(each, None)
                values.now.pop(each, None)


def _looked_up(node: fx.Node, look: Callable[[fx.Node], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: Any = fx.node.map_arg(node.args, look)
    kwargs: Any = fx.node.map_arg(node.kwargs, look)
    return args, kwargs


def _last_uses(graph: fx.Graph) -> Mapping[fx.Node, list[fx.Node]]:
    """Return for every node the values that no later node uses; a value that no node uses is freed at once."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        last[node] = node
        last.update(dict.fromkeys(node.all_input_nodes, node))
    found: defaultdict[fx.Node, list[fx.Node]] = defaultdict(list)
    for node, user in last.items():
        found[user].append(node)
    return found


def _copied(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in values)


def _tensors(values: Any) -> Iterator[Tensor]:
    yield from (leaf for leaf in pytree.tree_leaves(list(values)) if isinstance(leaf, Tensor))


def _bytes(values: Any) -> int:
    """Return what tensors take, each storage once."""
    storages = (tensor.untyped_storage() for tensor in _tensors(values))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
