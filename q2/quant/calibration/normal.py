"""The levels of given codes as a least-squares problem."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Normal", "solved"]

_ELEMENTS = 1 << 24
_RIDGE = 1e-7


@dataclass(frozen=True, eq=False)
class Normal:
    """The normal equations A l = b of the levels l, given the codes: of every output channel, (k, k) and (k,).

    The output error of a channel is l^T A l - 2 b^T l and what no level changes.
    """

    outputs: int
    k: int
    _made: Callable[[slice], tuple[Tensor, Tensor]]

    def each(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield a few output channels at a time with their A (R, k, k) and b (R, k), float64."""
        step = max(1, _ELEMENTS // self.k**2)
        for start in range(0, self.outputs, step):
            part = slice(start, min(start + step, self.outputs))
            yield part, *self._made(part)

    def total(self) -> tuple[Tensor, Tensor]:
        """Return the sums over all output channels, A (1, k, k) and b (1, k): of levels that all channels share."""
        sums = [(a.sum(0, keepdim=True), b.sum(0, keepdim=True)) for _, a, b in self.each()]
        curvatures, pulls = zip(*sums, strict=True)
        return torch.stack(curvatures).sum(0), torch.stack(pulls).sum(0)


def solved(curvature: Tensor, pull: Tensor, levels: Tensor) -> Tensor:
    """Return the levels (R, k), float64, that solve A l = b; those that no code stands for stay what they are.

    So do all levels of a channel whose A, of float32 sums, is not definite.

    >>> curvature, pull = torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]).double(), torch.tensor([[4.0, 0.0]]).double()
    >>> [round(float(level), 3) for level in solved(curvature, pull, torch.ones(1, 2))[0]]
    [2.0, 1.0]
    """
    start = levels.double()
    ridge = curvature.diagonal(dim1=1, dim2=2).mean(1) * _RIDGE + torch.finfo(torch.float64).tiny
    damped = curvature.clone()
    damped.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
    rest = pull - (curvature @ start[:, :, None])[:, :, 0]
    factor, failed = torch.linalg.cholesky_ex(damped)
    step = torch.cholesky_solve(rest[:, :, None], factor)[:, :, 0]
    return torch.where((failed == 0)[:, None], start + step, start)
