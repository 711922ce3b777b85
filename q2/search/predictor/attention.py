"""What `torch_geometric.nn.GATv2Conv` computes on many copies of one graph, fused: no tensor over edges is ever made.

The functions here take PyTorch Geometric's own module and give its values and gradients (Brody et al., How Attentive
Are Graph Attention Networks?, ICLR 2022, Eq. 7). Its message passing writes tensors of edges × width, several times
the size of what it computes; here a node's neighbours are read where they lie. On the CPU, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric.nn import GATv2Conv

__all__ = ["Attention", "Messages", "Neighbours", "gather", "send"]

Attention = Literal["auto", "fused", "pyg"]
"""Which code passes messages: the fused kernel on a CPU and PyTorch Geometric elsewhere (``auto``), or one of them."""

_SLOPE = np.float32(0.2)  # of the leaky ReLU, PyTorch Geometric's default
Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Places = tuple[Ints, Ints, Ints]  # the row of every node of every copy; starts and sources of the neighbours
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """Compile at the first call; keep the machine code on disk where some folder is writable.

    A division by zero gives what IEEE 754 says, as in PyTorch, and no exception.
    """
    try:
        return cast(F, numba.njit(nogil=True, fastmath=True, error_model="numpy", cache=True)(function))
    except RuntimeError:  # no writable folder for the cache
        return cast(F, numba.njit(nogil=True, fastmath=True, error_model="numpy")(function))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Edges sorted by target (CSR): the sources of target i are ``sources[starts[i] : starts[i + 1]]``."""

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


def send(conv: GATv2Conv, x: Tensor) -> Tensor:
    """Return what every row of features (R, inputs) sends, and what it adds as a target (R, 2 · width)."""
    weight = torch.cat([conv.lin_l.weight, conv.lin_r.weight])
    return torch.nn.functional.linear(x, weight, torch.cat([conv.lin_l.bias, conv.lin_r.bias]))


def gather(conv: GATv2Conv, sent: Tensor, rows: Ints, neighbours: Neighbours) -> Tensor:
    """Return what the targets receive (copies · targets, width) of what each row sends (R, 2 · width).

    `rows` (copies, nodes) are the rows that each copy's nodes have; the targets are the first nodes.
    """
    out: Tensor = _Attend.apply(sent, conv.att.view(-1), rows, neighbours)  # type: ignore[no-untyped-call]
    return cast(Tensor, out + conv.bias)


@dataclass(frozen=True, eq=False)
class Messages:
    """Passes messages along `edges` (2, E) within every copy of one graph of `nodes` nodes.

    A layer is a `GATv2Conv` with one head and self loops, as its constructor makes it of two widths.
    """

    edges: Ints
    nodes: int
    attention: Attention = "auto"

    @cached_property
    def neighbours(self) -> Neighbours:
        """The sources of every node."""
        return Neighbours.of(self.edges, self.nodes)

    def fused(self, device: torch.device) -> bool:
        """Whether the fused kernel passes the messages of features on a device."""
        return self.attention == "fused" or (self.attention == "auto" and device.type == "cpu")

    def through(self, conv: GATv2Conv, x: Tensor, rows: Ints) -> Tensor:
        """Return (copies · nodes, width) of features `x` (R, inputs); `rows` (copies, nodes) as of `gather`."""
        if self.fused(x.device):
            return gather(conv, send(conv, x), rows, self.neighbours)
        own = x[torch.from_numpy(rows.reshape(-1)).to(x.device)]
        return cast(Tensor, conv(own, self._batched(len(rows), x.device)))

    def _batched(self, copies: int, device: torch.device) -> Tensor:
        """Return the edges of copies side by side, as PyTorch Geometric's batches have them (2, copies · E)."""
        if (copies, device) not in self._edge_index:
            edges = torch.from_numpy(self.edges).to(device)
            starts = torch.arange(copies, device=device) * self.nodes
            self._edge_index[copies, device] = (edges[:, None] + starts[None, :, None]).reshape(2, -1)
        return self._edge_index[copies, device]

    @cached_property
    def _edge_index(self) -> dict[tuple[int, torch.device], Tensor]:
        return {}
