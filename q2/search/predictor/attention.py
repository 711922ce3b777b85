"""GATv2 message passing on many copies of one graph, fused so that no tensor over edges is ever made.

The parameters and their names are those of `torch_geometric.nn.GATv2Conv` with one head and self loops, and so are the
values (Brody et al., How Attentive Are Graph Attention Networks?, ICLR 2022, Eq. 7). Plain message passing writes
tensors of edges × width, several times the size of what it computes; here a node's neighbours are read where they lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

__all__ = ["GATv2", "Neighbours"]

_SLOPE = np.float32(0.2)  # of the leaky ReLU, PyTorch Geometric's default
Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Places = tuple[Ints, Ints, Ints]  # the row of every node of every copy; starts and sources of the neighbours
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """Compile at the first call; keep the machine code on disk where some folder is writable."""
    try:
        return cast(F, numba.njit(nogil=True, fastmath=True, cache=True)(function))
    except RuntimeError:  # no writable folder for the cache
        return cast(F, numba.njit(nogil=True, fastmath=True)(function))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Who sends to whom, sorted by target: the sources of target i are ``sources[starts[i] : starts[i + 1]]``."""

    starts: Ints
    sources: Ints

    @classmethod
    def of(cls, edges: Ints, targets: int) -> Neighbours:
        """Sort edges of shape (2, E) by target and give every one of the first `targets` nodes a self loop.

        >>> Neighbours.of(np.array([[0, 1], [1, 0]]), 2).sources
        array([1, 0, 0, 1])
        """
        edges = edges.astype(np.int64)
        kept = edges[:, (edges[0] != edges[1]) & (edges[1] < targets)]
        loops = np.arange(targets)
        source, target = np.concatenate([kept[0], loops]), np.concatenate([kept[1], loops])
        starts = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=targets))])
        return cls(starts, source[np.argsort(target, kind="stable")])


@_compiled
def _attend(sent: Array, places: Places, att: Array, out: Array, alpha: Array) -> None:
    rows, starts, sources = places
    width, targets = att.shape[0], starts.shape[0] - 1
    for graph in range(rows.shape[0]):
        for i in range(targets):
            own, first, stop = sent[rows[graph, i], width:], starts[i], starts[i + 1]
            top = np.float32(-np.inf)
            for edge in range(first, stop):
                other = sent[rows[graph, sources[edge]]]
                logit = np.float32(0)
                for c in range(width):
                    x = other[c] + own[c]
                    logit += att[c] * max(x, _SLOPE * x)
                alpha[graph, edge] = logit
                top = max(top, logit)
            total = np.float32(0)
            for edge in range(first, stop):
                alpha[graph, edge] = np.exp(alpha[graph, edge] - top)
                total += alpha[graph, edge]
            mine = out[graph * targets + i]
            for edge in range(first, stop):
                share = alpha[graph, edge] / total
                alpha[graph, edge] = share
                other = sent[rows[graph, sources[edge]]]
                for c in range(width):
                    mine[c] += share * other[c]


@_compiled
def _attend_backward(
    sent: Array, places: Places, att: Array, given: tuple[Array, Array], grads: tuple[Array, Array]
) -> None:
    rows, starts, sources = places
    alpha, grad = given
    grad_sent, grad_att = grads
    width, targets = att.shape[0], starts.shape[0] - 1
    for graph in range(rows.shape[0]):
        for i in range(targets):
            row, first, stop = rows[graph, i], starts[i], starts[i + 1]
            own, mine, grad_own = sent[row, width:], grad[graph * targets + i], grad_sent[row, width:]
            mean = np.float32(0)
            for edge in range(first, stop):
                other = sent[rows[graph, sources[edge]]]
                inner = np.float32(0)
                for c in range(width):
                    inner += mine[c] * other[c]
                mean += alpha[graph, edge] * inner
            for edge in range(first, stop):
                source = rows[graph, sources[edge]]
                other, grad_other = sent[source], grad_sent[source]
                share = alpha[graph, edge]
                inner = np.float32(0)
                for c in range(width):
                    inner += mine[c] * other[c]
                logit = share * (inner - mean)
                for c in range(width):
                    x = other[c] + own[c]
                    slope = np.float32(1) if x > 0 else _SLOPE
                    grad_att[c] += logit * slope * x
                    step = logit * att[c] * slope
                    grad_own[c] += step
                    grad_other[c] += step + share * mine[c]


class _Attend(torch.autograd.Function):
    """Softmax-weighted sums over neighbours, from what every row sends (R, 2 · width) to (copies · targets, width)."""

    @staticmethod
    def forward(ctx: Any, sent: Tensor, att: Tensor, rows: Ints, neighbours: Neighbours) -> Tensor:
        out = torch.zeros(len(rows) * (len(neighbours.starts) - 1), len(att))
        alpha = np.empty((len(rows), len(neighbours.sources)), dtype=np.float32)
        places = rows, neighbours.starts, neighbours.sources
        _attend(_array(sent), places, _array(att), out.numpy(), alpha)
        ctx.save_for_backward(sent, att)
        ctx.rest = places, alpha
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        sent, att = ctx.saved_tensors
        places, alpha = ctx.rest
        grad_sent, grad_att = torch.zeros_like(sent), torch.zeros_like(att)
        given, made = (alpha, _array(grads[0].contiguous())), (grad_sent.numpy(), grad_att.numpy())
        _attend_backward(_array(sent), places, _array(att), given, made)
        return grad_sent, grad_att, None, None


def _array(tensor: Tensor) -> Array:
    return cast(Array, tensor.detach().numpy())


class GATv2(nn.Module):
    """`torch_geometric.nn.GATv2Conv(inputs, width)` for copies of one graph; same parameters, names and values.

    On the CPU, in float32.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.lin_l, self.lin_r = nn.Linear(inputs, width), nn.Linear(inputs, width)
        self.att = nn.Parameter(torch.empty(1, 1, width))
        self.bias = nn.Parameter(torch.zeros(width))
        for linear in (self.lin_l, self.lin_r):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.xavier_uniform_(self.att)

    def forward(self, x: Tensor, rows: Ints, neighbours: Neighbours) -> Tensor:
        """Return (copies · targets, width) of features `x` (R, inputs).

        `rows` (copies, nodes) are the rows of `x` that each copy's nodes have; the targets are the first nodes.
        """
        return self.gather(self.send(x), rows, neighbours)

    def send(self, x: Tensor) -> Tensor:
        """Return what every row of features (R, inputs) sends, and what it is met with as a target (R, 2 · width)."""
        weight = torch.cat([self.lin_l.weight, self.lin_r.weight])
        return nn.functional.linear(x, weight, torch.cat([self.lin_l.bias, self.lin_r.bias]))

    def gather(self, sent: Tensor, rows: Ints, neighbours: Neighbours) -> Tensor:
        """Return what the targets receive of what each row sends (R, 2 · width)."""
        out: Tensor = _Attend.apply(sent, self.att.view(-1), rows, neighbours)  # type: ignore[no-untyped-call]
        return out + self.bias
