"""Streams: what the flow graph knows of a value, and how a join of several streams passes through an operation.

Where streams are concatenated the join stays open as long as what follows treats its parts alike: a slice then takes
its own part only. Joint attention (SD3, Flux) concatenates image and text tokens and takes them apart again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

__all__ = ["Flow", "Joined", "Stream", "aligned", "indexed", "moved", "narrowed", "parts_of", "plain", "shape_of"]


@dataclass(frozen=True)
class Flow:
    """A value that comes from one flow node; `clear` as long as only arithmetic, shape and dtype have touched it."""

    source: str
    clear: bool = True
    softmax: bool = False


@dataclass(frozen=True)
class Joined:
    """Streams side by side along `dim`, each with its length; None is a part without a flow (an input, zeros).

    `origin` is the fx node that joined them.
    """

    dim: int
    parts: tuple[tuple[int, Flow | None], ...]
    origin: fx.Node

    def map(self, change: Callable[[Flow], Flow]) -> Joined:
        """Return the join with every flow changed."""
        return replace(self, parts=tuple((length, flow and change(flow)) for length, flow in self.parts))


Stream = Flow | Joined


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of a node's tensor; empty for anything else."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def parts_of(stream: Stream | None) -> list[Flow]:
    """Return the distinct flows in a stream, in order; one for every source, less clear where one of them is."""
    found: dict[str, Flow] = {}
    entries = [flow for _, flow in stream.parts] if isinstance(stream, Joined) else [stream]
    for flow in entries:
        if flow is not None:
            old = found.get(flow.source, flow)
            found[flow.source] = Flow(flow.source, flow.clear and old.clear, flow.softmax or old.softmax)
    return list(found.values())


def aligned(streams: Sequence[Stream], shapes: Sequence[tuple[int, ...]], out: tuple[int, ...]) -> int | None:
    """Return the dimension of `out` along which all joins lie, part for part; None if they do not.

    The other streams must be as long there, or have length 1, as elementwise operations ask for.
    """
    joins = [(stream, shape) for stream, shape in zip(streams, shapes, strict=True) if isinstance(stream, Joined)]
    ends = {len(shape) - join.dim for join, shape in joins}
    lengths = {tuple(length for length, _ in join.parts) for join, _ in joins}
    if len(ends) != 1 or len(lengths) != 1:
        return None
    dim = len(out) - ends.pop()
    if dim < 0 or out[dim] != sum(lengths.pop()):
        return None
    return dim


def moved(join: Joined, name: str, node: fx.Node, before: tuple[int, ...], after: tuple[int, ...]) -> Joined | None:
    """Follow a join through a change of layout; None where its parts are no longer side by side."""
    if name in ("transpose", "permute", "movedim"):
        dim = _permuted(name, node, len(before)).index(join.dim)
        return replace(join, dim=dim)
    if name in ("expand", "expand_as", "repeat"):
        dim = join.dim + len(after) - len(before)
        return replace(join, dim=dim) if after[dim] == before[join.dim] else None
    if name == "pad":
        return replace(join) if after[join.dim] == before[join.dim] else None
    place = math.prod(before[: join.dim]), before[join.dim]
    dims = [dim for dim, length in enumerate(after) if (math.prod(after[:dim]), length) == place]
    return replace(join, dim=dims[-1]) if dims else None


def _permuted(name: str, node: fx.Node, rank: int) -> list[int]:
    """Return, for every dimension after a permutation, which one it was."""
    given = plain((*node.args[1:], *node.kwargs.values()))
    order = list(range(rank))
    if name == "permute":
        dims = given[0] if len(given) == 1 and not isinstance(given[0], int) else given
        return [dim % rank for dim in dims]
    if name == "transpose":
        first, second = given[0] % rank, given[1] % rank
        order[first], order[second] = order[second], order[first]
        return order
    sources, targets = ([entry] if isinstance(entry, int) else list(entry) for entry in given[:2])
    rest = [dim for dim in order if dim not in {source % rank for source in sources}]
    for target, source in sorted((t % rank, s % rank) for s, t in zip(sources, targets, strict=True)):
        rest.insert(target, source)
    return rest


def indexed(join: Joined, index: Any, rank: int) -> Joined | None:
    """Follow a join through ``tensor[index]``: a slice along its dimension takes the parts that it meets.

    None where the index is no plain one (a mask, a tensor, a step) and the parts can no longer be told apart.
    """
    entries = plain(list(index) if isinstance(index, tuple) else [index])
    if any(not isinstance(entry, (int, slice, type(None), type(...))) for entry in entries):
        return None
    missing = rank - sum(entry is not None and entry is not ... for entry in entries)
    place = entries.index(...) if ... in entries else len(entries)
    entries[place : place + 1] = [slice(None)] * missing
    dim = before = 0
    for entry in entries:
        if entry is not None and before == join.dim:
            return _cut(join, entry, dim)
        before += entry is not None
        dim += not isinstance(entry, int)
    return None


def narrowed(join: Joined, start: int, stop: int) -> Joined:
    """Return what lies between two places along the join's dimension."""
    kept: list[tuple[int, Flow | None]] = []
    begin = 0
    for length, flow in join.parts:
        overlap = min(stop, begin + length) - max(start, begin)
        if overlap > 0:
            kept.append((overlap, flow))
        begin += length
    return replace(join, parts=tuple(kept))


def _cut(join: Joined, entry: int | slice, dim: int) -> Joined | None:
    total = sum(length for length, _ in join.parts)
    if isinstance(entry, int):
        return narrowed(join, entry % total, entry % total + 1)
    start, stop, step = entry.indices(total)
    return replace(narrowed(join, start, stop), dim=dim) if step == 1 else None


def plain(values: Any) -> Any:
    """Replace nodes by their traced values, in a list if there are several."""
    found = fx.node.map_arg(values, lambda node: node.meta.get("val"))
    return list(found) if isinstance(found, (list, tuple)) else found
