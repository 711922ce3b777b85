"""The flow graph: the fx graph contracted to its weight layers and to the points where two or more flows meet.

One rule for every denoiser, no model's name in it; docs/flow.md lists its steps. Compare Qua²SeDiMo (AAAI'25) and
AutoBuild (CVPR'24), whose flow graphs are written by hand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import torch
from torch import fx, nn

from q2.graph import operations as ops
from q2.graph.flow.merging import connect, tidy
from q2.graph.flow.propagation import through
from q2.graph.flow.streams import Flow, Joined, Stream, parts_of, plain, shape_of
from q2.graph.layers import Geometry
from q2.graph.scopes import scope

__all__ = ["flow_graph"]

_KINDS = {"matmul": ops.MATMUL, "concat": ops.CONCAT, "add": ops.ADD, "mul": ops.MUL}


def flow_graph(model: nn.Module, graph: fx.Graph, layers: Mapping[str, Geometry]) -> nx.DiGraph[str]:
    """Contract a traced graph to `layers` (by path, with their geometry) and to what combines their flows.

    A node's name is its module path (``path#1`` for the second part of a split layer), a combine's is its scope and
    operation. Attributes: ``kind`` (``weight`` or ``combine``), ``layer``, ``part`` and ``channels`` (the range of
    input channels that the part reads), ``op`` of a combine, ``stage``, ``block``, ``transformer``, ``role`` (see
    `Place`), ``order``. An edge has ``mod``: its value is broadcast over another flow. The graph is frozen; it can
    have cycles where layers are called more than once.
    """
    contraction = _Contraction(model, layers)
    contraction.walk(graph)
    finished = tidy(contraction.graph, contraction.ends, model)
    nx.freeze(finished)
    return finished


class _Contraction:
    """Walk an fx graph once and build its flow graph: `graph`, with `ends`, the nodes that the output reads.

    Nodes: ``kind`` (``weight`` or ``combine``), ``order``; a weight has ``layer`` and ``part``, a combine has ``op``,
    ``ops`` and ``scope``. Edges: ``mod``, the value is broadcast over another flow, and ``clear``, only arithmetic,
    shape or dtype lie between.
    """

    def __init__(self, model: nn.Module, layers: Mapping[str, Geometry]) -> None:
        self.graph: nx.DiGraph[str] = nx.DiGraph()
        self.ends: Collection[str] = ()
        self._model = model
        self._layers = layers
        self._streams: dict[fx.Node, Stream] = {}
        self._tuples: dict[fx.Node, Sequence[Stream | None]] = {}
        self._concats: dict[tuple[fx.Node, tuple[str, ...]], Flow] = {}
        self._splits: dict[str, tuple[Joined, int]] = {}

    def walk(self, graph: fx.Graph) -> None:
        """Follow every value from the inputs to the output."""
        for node in graph.nodes:
            if node.op == "output":
                inputs = [flow for source in node.all_input_nodes for flow in parts_of(self._streams.get(source))]
                self.ends = {flow.source for flow in inputs}
            elif node.op not in ("placeholder", "get_attr"):
                self._visit(node)

    def _visit(self, node: fx.Node) -> None:
        inputs = [source for source in node.all_input_nodes if source in self._streams]
        geometry = self._layers.get(str(node.target)) if node.op == "call_module" else None
        if geometry is not None:
            self._streams[node] = self._weight(node, geometry, inputs)
            return
        inner = (
            [name for name in self._layers if name.startswith(f"{node.target}.")] if node.op == "call_module" else []
        )
        if inner and inputs:
            self._streams[node] = self._mixture(node, inner, inputs)
            return
        name, writes = ops.operation(self._model, node)
        if name in ops.META:
            inputs = [source for source in inputs if source is node.args[0]]
        shapes_only = name.endswith("_like") or name.startswith("new_")
        if inputs and not shapes_only and (writes or ops.carries(node)):
            self._flow_on(node, name, inputs)
            if writes and node in self._streams:
                self._write_back(node)

    def _write_back(self, node: fx.Node) -> None:
        """Let a write in place be seen through the views by which it was written."""
        base: Any = node.args[0]
        while isinstance(base, fx.Node):
            self._streams[base] = self._streams[node]
            viewed = base.args and ops.operation(self._model, base)[0] in ops.VIEWS
            base = base.args[0] if viewed else None

    # Operations:

    def _flow_on(self, node: fx.Node, name: str, inputs: list[fx.Node]) -> None:
        if name == "getitem" and inputs[0] in self._tuples and isinstance(node.args[1], int):
            self._set(node, self._tuples[inputs[0]][node.args[1]])
        elif name == ops.ATTENTION:
            self._set(node, self._attention(node))
        elif name in ops.CONCAT:
            self._set(node, self._concat(node))
        else:
            streams = {source: self._streams[source] for source in inputs}
            passed = through(node, name, streams, lambda flows: self._meet(node, name, inputs, flows))
            if passed is None:  # no join among them, or one that the operation mixes
                self._set(node, self._meet(node, name, inputs, [self._flow(self._streams[i]) for i in inputs]))
            elif isinstance(passed, Joined):
                self._set(node, passed)
            else:
                self._tuples[node] = [_settled(join) for join in passed]
                self._streams[node] = self._streams[inputs[0]]

    def _set(self, node: fx.Node, stream: Stream | None) -> None:
        settled = _settled(stream)
        if settled is not None:
            self._streams[node] = settled

    def _flow(self, stream: Stream | None) -> Flow | None:
        """Return one flow for a stream: a join of several becomes a concat, one for all its readers."""
        flows = parts_of(stream)
        if len(flows) < 2 or not isinstance(stream, Joined):
            return flows[0] if flows else None
        key = stream.origin, tuple(flow.source for flow in flows)
        if key not in self._concats:
            self._concats[key] = self._combine("concat", stream.origin, [(flow, False) for flow in flows])
            self._splits[self._concats[key].source] = stream, len(shape_of(stream.origin))
        return self._concats[key]

    def _concat(self, node: fx.Node) -> Stream | None:
        tensors: Sequence[fx.Node] = ops.argument(node, 0, "tensors")
        dim: int = plain(ops.argument(node, 1, "dim", 0))
        rank = len(shape_of(node))
        parts: list[tuple[int, Flow | None]] = []
        for tensor in tensors:
            stream, length = self._streams.get(tensor), shape_of(tensor)[dim]
            if isinstance(stream, Joined) and stream.dim == dim % rank:
                parts += stream.parts
            else:
                parts.append((length, self._flow(stream)))
        return Joined(dim % rank, tuple(parts), node)

    def _attention(self, node: fx.Node) -> Stream | None:
        query, key, value = (
            self._streams.get(ops.argument(node, i, name)) for i, name in enumerate(("query", "key", "value"))
        )
        keys, values = self._flow(key), self._flow(value)

        def attend(flow: Flow | None) -> Flow | None:
            scores = self._meeting("mul_qk", node, flow, keys)
            out = self._meeting("mul_vsm", node, scores, values)
            return out and replace(out, clear=False)

        if isinstance(query, Joined) and query.dim == len(shape_of(node)) - 2:
            return replace(query, parts=tuple((length, attend(flow)) for length, flow in query.parts))
        return attend(self._flow(query))

    def _meeting(self, op: str, node: fx.Node, left: Flow | None, right: Flow | None) -> Flow | None:
        if left is None or right is None or left.source == right.source:
            return left or right
        return self._combine(op, node, [(left, False), (right, False)])

    def _meet(self, node: fx.Node, name: str, inputs: list[fx.Node], given: Sequence[Flow | None]) -> Flow | None:
        """Let the operands of an operation meet: one distinct flow is contracted, two or more are a combine."""
        pairs = [(flow, _numel(source) < _numel(node)) for source, flow in zip(inputs, given, strict=True) if flow]
        flows = [flow for flow, _ in pairs]
        if not flows:
            return None
        if len({flow.source for flow in flows}) == 1:
            clear = all(flow.clear for flow in flows) and name in ops.CLEAR
            return Flow(flows[0].source, clear, any(flow.softmax for flow in flows) or name in ("softmax", "Softmax"))
        kind = next((kind for kind, names in _KINDS.items() if name in names), name)
        if kind == "matmul" and any(flow.softmax for flow in flows):
            kind = "mul_vsm"
            for scores in (self.graph.nodes[flow.source] for flow in flows if flow.softmax):
                if scores.get("op") == "matmul":
                    scores.update(op="mul_qk", ops={"mul_qk"})
        return self._combine(kind, node, pairs)

    # Nodes and edges:

    def _weight(self, node: fx.Node, geometry: Geometry, inputs: list[fx.Node]) -> Flow:
        """Add a weight layer; one whose input is a channel concat with a skip is split: W·[x; s] = W0·x + W1·s."""
        flow = self._flow(self._streams[inputs[0]]) if inputs else None
        name = str(node.target)
        parts = self._skip_parts(flow.source, geometry) if flow else []
        if not parts:
            self._add(name, kind="weight", layer=name, part=0, channels=(0, geometry.in_channels))
            if flow:
                self._edge(flow.source, name)
            return Flow(name)
        keys, start = [], 0
        for part, (length, source) in enumerate(parts):
            key = name + (f"#{part}" if part else "")
            self._add(key, kind="weight", layer=name, part=part, channels=(start, start + length))
            self._edge(source, key)
            keys.append(key)
            start += length
        return self._combine("add", node, [(Flow(key), False) for key in keys])

    def _mixture(self, node: fx.Node, inner: list[str], inputs: list[fx.Node]) -> Flow:
        """Add the layers inside a module that is one node (a mixture of experts), each between input and output."""
        flow = self._meet(node, "experts", inputs, [self._flow(self._streams[source]) for source in inputs])
        for name in inner:
            self._add(name, kind="weight", layer=name, part=0, channels=(0, self._layers[name].in_channels))
            if flow:
                self._edge(flow.source, name)
        return Flow(inner[0]) if len(inner) == 1 else self._combine("experts", node, [(Flow(n), False) for n in inner])

    def _skip_parts(self, source: str, geometry: Geometry) -> list[tuple[int, str]]:
        """Return length and source of each part, where `source` joins channels and one part is upstream of another."""
        join, rank = self._splits.get(source, (None, 0))
        axis = -1 if geometry.type == "Linear" else 1
        if join is None or join.dim != axis % rank or sum(n for n, _ in join.parts) != geometry.in_channels:
            return []
        parts = [(length, flow.source) for length, flow in join.parts if flow]
        sources = {part for _, part in parts}
        upstream = any(nx.has_path(self.graph, a, b) for a in sources for b in sources if a != b)
        return parts if upstream and len(parts) == len(join.parts) == len(sources) else []

    def _combine(self, op: str, node: fx.Node, inputs: Sequence[tuple[Flow, bool]]) -> Flow:
        place = scope(node)
        if node.op == "call_module":  # a split layer's sum stands beside it, not in it
            place = str(node.target).rpartition(".")[0]
        key = f"combine {len(self.graph)}"
        self._add(key, kind="combine", op=op, ops={op}, scope=place)
        for flow, mod in inputs:
            self._edge(flow.source, key, clear=flow.clear, mod=mod)
        return Flow(key)

    def _add(self, key: str, **attributes: object) -> None:
        if key not in self.graph:
            self.graph.add_node(key, order=len(self.graph), **attributes)

    def _edge(self, source: str, target: str, *, clear: bool = True, mod: bool = False) -> None:
        connect(self.graph, source, target, clear=clear, mod=mod)


def _settled(stream: Stream | None) -> Stream | None:
    """Drop a join that is none: parts of one source, the whole length."""
    if not isinstance(stream, Joined):
        return stream
    flows = [flow for _, flow in stream.parts]
    if not any(flows):
        return None
    single = None not in flows and len({flow.source for flow in flows if flow}) == 1
    return parts_of(stream)[0] if single else stream


def _numel(node: fx.Node) -> int:
    value = node.meta.get("val")
    return value.numel() if isinstance(value, torch.Tensor) else 0
