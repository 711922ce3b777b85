"""Edits of a traced graph that keep the tracer's guards: nodes inserted, replaced and removed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import fx, nn

from q2.errors import TraceError, did_you_mean
from q2.graph.naming import node_op
from q2.graph.scopes import scope
from q2.graph.tracing.guards import is_guard, is_impure, writes_in_place

__all__ = ["Edit", "Edited"]

Target = Callable[..., Any] | str
"""What a new node calls: a function, or the path of a module of the model."""
_METADATA = frozenset({"shape", "dtype", "device", "ndim", "is_cuda", "layout", "requires_grad"})
_METADATA_METHODS = frozenset({"size", "dim", "ndimension", "numel", "is_floating_point"})


class Edit:
    """Changes the nodes of a graph; made by `Graph.edit`, for each path that has been traced.

    What the trace decided stays decided, and checked: guards are never removed, and values that are only read by
    guards, or of which only shape, dtype or device is read, stay those that were traced. So what is put in the place of
    a value has its shape, dtype and device.

    >>> from q2.graph import trace
    >>> graph = trace(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), {"input": torch.zeros(3, 4)})
    >>> graph.edit("squash", lambda edit: edit.insert_after(edit.node("0"), torch.tanh))
    >>> [node.name for node in graph.executed().nodes]
    ['input_1', '_0', 'tanh', '_1', 'output']
    >>> graph.edit("squash", None)
    """

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model, self.graph = model, graph

    def nodes(self, pattern: str = "*", op: str = "") -> list[fx.Node]:
        """Return the nodes that a shell-style pattern means, in order: modules by path, any node by its name.

        With `op`, as in ``"scaled_dot_product_attention"``, the nodes of that operation which the forward of a matching
        module made: names of function nodes can differ from one traced path to another, these do not. Raises
        `TraceError` if there are none, with the nearest name.
        """
        found = [node for node in self.graph.nodes if self._is_meant(node, pattern, op)]
        if not found:
            names = [str(node.target) if node.op == "call_module" else node.name for node in self.graph.nodes]
            ops = [node_op(self.model, node) for node in self.graph.nodes]
            near = did_you_mean(op, ops) if op and op not in ops else did_you_mean(pattern, names)
            raise TraceError(f"no node matches {pattern!r}{f' with the operation {op!r}' if op else ''}{near}")
        return found

    def node(self, name: str, op: str = "") -> fx.Node:
        """Return the one node that `nodes` finds. Raises `TraceError` for none, or several."""
        found = self.nodes(name, op)
        if len(found) > 1:
            raise TraceError(f"{name!r} matches {len(found)} nodes, {found[0].name!r} first; expected one")
        return found[0]

    def insert_after(self, node: fx.Node, target: Target, *args: Any, **kwargs: Any) -> fx.Node:
        """Call ``target(value, *args, **kwargs)`` on a node's value; what read the value reads the result.

        Guards, and reads of shape, dtype or device, go on reading the value itself. Raises `TraceError` for a value
        that something writes to in place.
        """
        self._check(node, "insert after", placeholder=True)
        writer = next((user for user in node.users if _writes_to(user, node)), None)
        if writer is not None:
            raise TraceError(f"insert after {node.name!r}: {writer.name!r} writes to its value; insert after that")
        readers = [user for user in node.users if not _decides(user, node)]
        last = [each for each in self.graph.nodes if each.op == "placeholder"][-1:] if node.op == "placeholder" else []
        with self.graph.inserting_after(*(last or [node])):
            made = self._call(target, (node, *args), kwargs)
        made.meta = dict(node.meta)
        for reader in readers:
            reader.replace_input_with(node, made)
        return made

    def insert_before(
        self, node: fx.Node, target: Target, *args: Any, argument: int | str = 0, **kwargs: Any
    ) -> fx.Node:
        """Call ``target(value, *args, **kwargs)`` on one argument of a node, which alone reads the result.

        `argument` is its position or name. Raises `TraceError` if the node has no such argument that is a node.
        """
        self._check(node, "insert before", output=True)
        found = node.kwargs.get(argument) if isinstance(argument, str) else dict(enumerate(node.args)).get(argument)
        if not isinstance(found, fx.Node):
            raise TraceError(f"insert before {node.name!r}: its argument {argument!r} is {found!r}, no node")
        with self.graph.inserting_before(node):
            made = self._call(target, (found, *args), kwargs)
        made.meta = dict(found.meta)
        if isinstance(argument, str):
            node.update_kwarg(argument, made)
        else:
            node.update_arg(argument, made)
        return made

    def replace(self, node: fx.Node, target: Target, *args: Any, **kwargs: Any) -> fx.Node:
        """Call ``target(*args, **kwargs)`` in place of a node; without arguments, on the arguments that it has.

        Whatever read the node reads the result, guards too: they check the new value. Raises `TraceError` for a guard,
        an input, the output, and what writes in place.
        """
        self._check(node, "replace")
        with self.graph.inserting_before(node):
            made = self._call(target, *((args, kwargs) if args or kwargs else (node.args, dict(node.kwargs))))
        made.meta = dict(node.meta)
        node.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
        self._drop(node)
        return made

    def remove(self, node: fx.Node, instead: fx.Node | None = None) -> None:
        """Remove a node; what read it reads `instead`, which is its first input if none is given, guards too.

        What only the node needed goes as well, but for guards and writes in place. Raises `TraceError` as `replace`
        does, and where the two values differ in shape or dtype.
        """
        self._check(node, "remove")
        inputs = node.all_input_nodes
        other = instead or (inputs[0] if inputs else None)
        if other is None:
            raise TraceError(f"remove {node.name!r}: it has no input that could be read instead")
        if (mine := _kind(node)) != (theirs := _kind(other)):
            raise TraceError(f"remove {node.name!r}: its value is {mine}, that of {other.name!r} is {theirs}")
        node.replace_all_uses_with(other, delete_user_cb=lambda user: user is not other)
        self._drop(node)

    def _is_meant(self, node: fx.Node, pattern: str, op: str) -> bool:
        if op:
            here = scope(node)
            if node.op == "call_module" and here == str(node.target):
                here = here.rpartition(".")[0]
            return node_op(self.model, node) == op and fnmatchcase(here, pattern)
        module = node.op == "call_module" and fnmatchcase(str(node.target), pattern)
        return module or fnmatchcase(node.name, pattern)

    def _check(self, node: fx.Node, what: str, *, placeholder: bool = False, output: bool = False) -> None:
        """Raise `TraceError` for a node that must stay as it is."""
        why = ""
        if node.graph is not self.graph:
            why = "it is a node of another graph; find it with nodes()"
        elif is_guard(node):
            why = "it is a guard, which checks what the trace decided"
        elif (node.op == "placeholder" and not placeholder) or (node.op == "output" and not output):
            why = f"it is an {'input' if node.op == 'placeholder' else 'output'} of the model"
        elif not (placeholder or output) and writes_in_place(node.op, node.target, node.kwargs):
            why = "it writes to its argument in place"
        if why:
            raise TraceError(f"{what} {node.name!r}: {why}")

    def _call(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        if isinstance(target, str):
            try:
                self.model.get_submodule(target)
            except AttributeError:
                known = [path for path, _ in self.model.named_modules()]
                raise TraceError(f"no module {target!r} in the model{did_you_mean(target, known)}") from None
            return self.graph.call_module(target, args, kwargs)
        return self.graph.call_function(target, args, kwargs)

    def _drop(self, node: fx.Node) -> None:
        """Erase a node that nothing reads, and then what only it read."""
        inputs = node.all_input_nodes
        self.graph.erase_node(node)
        for each in inputs:
            if not each.users and each.op not in ("placeholder", "output") and not is_impure(each):
                self._drop(each)


@dataclass(frozen=True)
class Edited:
    """A rewrite of a graph that is made with an `Edit`."""

    change: Callable[[Edit], object]

    def __call__(self, model: nn.Module, graph: fx.Graph) -> None:
        """Edit a traced path's graph."""
        self.change(Edit(model, graph))


def _decides(user: fx.Node, node: fx.Node) -> bool:
    """Return whether a reader of a node only looks at its shape, dtype or device, or only serves guards."""
    name = user.target if isinstance(user.target, str) else getattr(user.target, "__name__", "")
    if user.args[:1] == (node,):
        if user.op == "call_function" and user.target is getattr and user.args[1] in _METADATA:
            return True
        if user.op == "call_method" and name in _METADATA_METHODS:
            return True
    return _serves_guards(user, {})


def _serves_guards(node: fx.Node, known: dict[fx.Node, bool]) -> bool:
    if is_guard(node):
        return True
    if node not in known:
        known[node] = False
        known[node] = bool(node.users) and all(_serves_guards(user, known) for user in node.users)
    return known[node]


def _writes_to(user: fx.Node, node: fx.Node) -> bool:
    if not writes_in_place(user.op, user.target, user.kwargs):
        return False
    return user.args[:1] == (node,) or user.kwargs.get("out") is node


def _kind(node: fx.Node) -> str:
    value = node.meta.get("val")
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return type(value).__name__
