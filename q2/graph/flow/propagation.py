"""How a join of streams passes through an operation: part by part where the operation treats its parts alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import torch
from torch import fx

from q2.graph import operations as ops
from q2.graph.flow.streams import Flow, Joined, Stream, aligned, indexed, moved, narrowed, plain, shape_of

__all__ = ["through"]

_ELEMENTWISE = ops.ADD | ops.MUL | frozenset({
    "to", "type", "type_as", "float", "half", "bfloat16", "contiguous", "clone", "detach", "neg", "pow", "rsqrt",
    "sqrt", "square", "exp", "log", "abs", "cos", "sin", "clamp", "where", "masked_fill", "nan_to_num", "dropout",
    "Dropout", "Identity", "sigmoid", "tanh", "silu", "SiLU", "gelu", "GELU", "relu", "ReLU", "mish", "Mish",
    "softplus", "hardswish",
})  # fmt: skip
_LAYOUT = frozenset({
    "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose", "permute", "movedim", "expand",
    "expand_as", "view_as", "reshape_as", "repeat", "pad", "view_as_complex", "view_as_real",
})  # fmt: skip
_LAST = frozenset({"layer_norm", "rms_norm", "LayerNorm", "RMSNorm"})  # they mix the last dimensions only
_ALONG = frozenset({"softmax", "mean", "sum", "var", "norm", "normalize", "amax"})  # they mix the dimensions named
_PIECES = frozenset({"chunk", "split", "split_with_sizes", "tensor_split", "unbind"})

Meet = Callable[[Sequence[Flow | None]], Flow | None]


def through(node: fx.Node, name: str, streams: Mapping[fx.Node, Stream], meet: Meet) -> Joined | list[Joined] | None:
    """Return the joins that leave an operation, a list where it returns several; None if it mixes the parts.

    `streams` are those of the operands that flow, in order; `meet` makes one flow of one part of each.
    """
    joins = [source for source, stream in streams.items() if isinstance(stream, Joined)]
    if not joins:
        return None
    if name in _ELEMENTWISE:
        return _together(streams, shape_of(node), meet)
    if name == "stack":
        return _stacked(node, streams, meet)
    if name in ops.MATMUL:
        return _rows(node, streams, meet)
    join = streams[joins[0]]
    return _alone(node, name, joins[0], join, meet) if len(streams) == 1 and isinstance(join, Joined) else None


def _alone(node: fx.Node, name: str, source: fx.Node, join: Joined, meet: Meet) -> Joined | list[Joined] | None:
    before = shape_of(source)
    if name == "getitem" and before:
        return indexed(join, node.args[1], len(before))
    if name in _PIECES:
        return _pieces(node, name, join, len(before))
    if name in _LAYOUT:
        return moved(join, name, node, before, shape_of(node))
    if name == "narrow":
        dim, start, length = plain(node.args[1:4])
        return narrowed(join, start, start + length) if dim % len(before) == join.dim else join
    return _kept(node, name, join, len(before), meet)


def _together(streams: Mapping[fx.Node, Stream], after: tuple[int, ...], meet: Meet) -> Joined | None:
    """Combine operands part by part."""
    dim = aligned(list(streams.values()), [shape_of(source) for source in streams], after)
    if dim is None:
        return None
    first = next(stream for stream in streams.values() if isinstance(stream, Joined))
    rows = [
        [stream.parts[i][1] if isinstance(stream, Joined) else stream for stream in streams.values()]
        for i in range(len(first.parts))
    ]
    parts = [(length, meet(row)) for (length, _), row in zip(first.parts, rows, strict=True)]
    return replace(first, dim=dim, parts=tuple(parts))


def _stacked(node: fx.Node, streams: Mapping[fx.Node, Stream], meet: Meet) -> Joined | None:
    """Combine operands part by part, along a new dimension."""
    new = int(plain(ops.argument(node, 1, "dim", 0))) % len(shape_of(node))
    joined = _together(streams, shape_of(next(iter(streams))), meet)
    return replace(joined, dim=joined.dim + (new <= joined.dim)) if joined else None


def _rows(node: fx.Node, streams: Mapping[fx.Node, Stream], meet: Meet) -> Joined | None:
    """Multiply the rows of a left operand whose rows are joined, each part by the whole right one."""
    (left, first), *others = streams.items()
    flows = [stream for _, stream in others if isinstance(stream, Flow)]
    rank = len(shape_of(left))
    rows = isinstance(first, Joined) and first.dim < rank - 1 and left is node.args[0] and len(flows) == len(others)
    if not isinstance(first, Joined) or not rows or len(shape_of(node)) != rank or node.target == "einsum":
        return None
    return _each(first, lambda flow: meet([flow, *flows]))


def _each(join: Joined, change: Callable[[Flow], Flow | None]) -> Joined:
    return replace(join, parts=tuple((length, change(flow) if flow else None) for length, flow in join.parts))


def _pieces(node: fx.Node, name: str, join: Joined, rank: int) -> list[Joined] | None:
    """Cut along the join, or along another dimension, where every piece holds all parts."""
    dim = int(plain(ops.argument(node, 1 if name == "unbind" else 2, "dim", 0))) % rank
    values = node.meta.get("val")
    pieces: Sequence[object] = values if isinstance(values, (tuple, list)) else ()
    if dim != join.dim:
        kept = replace(join, dim=join.dim - (name == "unbind" and dim < join.dim))
        return [kept for _ in pieces]
    if name == "unbind":
        return [narrowed(join, i, i + 1) for i in range(len(pieces))]
    lengths = [piece.shape[dim] for piece in pieces if isinstance(piece, torch.Tensor)]
    return [narrowed(join, start, stop) for start, stop in pairwise(accumulate(lengths, initial=0))]


def _kept(node: fx.Node, name: str, join: Joined, rank: int, meet: Meet) -> Joined | None:
    """Pass through a norm or a reduction over other dimensions than the join's."""
    mixed: set[int]
    if name in _LAST:
        shape = plain(ops.argument(node, 1, "normalized_shape", None)) if node.op == "call_function" else None
        mixed = set(range(rank - (len(shape) if isinstance(shape, list) else 1), rank))
    elif name in _ALONG:
        position = 2 if name in ("norm", "normalize") else 1
        dims = plain(ops.argument(node, position, "dim", 1 if name == "normalize" else None))
        if dims is None:
            return None
        mixed = {dim % rank for dim in (dims if isinstance(dims, list) else [dims])}
    else:
        return None
    if join.dim in mixed:
        return None
    dropped = 0 if len(shape_of(node)) == rank else sum(dim < join.dim for dim in mixed)
    return replace(_each(join, lambda flow: meet([flow])), dim=join.dim - dropped)
