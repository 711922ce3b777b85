"""Finds even levels on which all values of a channel lie, if there are any: what makes ``uaq`` exact on its own output."""

import torch
from torch import Tensor

__all__ = ["exact_levels"]


def exact_levels(
    rows: Tensor, top: int, dtype: torch.dtype, stored: torch.dtype, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for every channel whether it lies on even levels, and the scale and zero point of these, float32, (C,).

    `rows` (C, n) is float32; its values were rounded to `dtype`, scales to `stored`; codes run from 0 to `top`, zero
    points from -`limit` to `limit`. Real weights have more distinct values than codes; those channels cost one short
    sort. The others are tried at every number of steps between their ends.
    """
    solved = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    scale = torch.ones(len(rows), device=rows.device)
    zero = torch.zeros(len(rows), device=rows.device)
    few = _distinct(rows[:, : 4 * (top + 1)]).sum(1) <= top + 1
    index = few.nonzero().flatten()
    if len(index) == 0:
        return solved, scale, zero
    ordered = rows[index].sort(1).values
    fresh = _distinct(ordered, ordered=True)
    index, ordered, fresh = (part[fresh.sum(1) <= top + 1] for part in (index, ordered, fresh))
    levels = ordered[:, -1:].repeat(1, top + 1)  # padded with the largest
    levels.scatter_(1, (fresh.cumsum(1) - 1), ordered)
    unit = torch.finfo(dtype).eps
    for steps in range(top, 0, -1):
        if len(index) == 0:
            break
        found, its_scale, its_zero = _try_steps(levels, steps, unit, dtype, stored, limit)
        hit = index[found]
        solved[hit], scale[hit], zero[hit] = True, its_scale[found], its_zero[found]
        index, levels = index[~found], levels[~found]
    return solved, scale, zero


def _distinct(rows: Tensor, *, ordered: bool = False) -> Tensor:
    rows = rows if ordered else rows.sort(1).values
    fresh = torch.ones(rows.shape, dtype=torch.bool, device=rows.device)
    fresh[:, 1:] = rows[:, 1:] != rows[:, :-1]
    return fresh


def _try_steps(
    levels: Tensor, steps: int, unit: float, dtype: torch.dtype, stored: torch.dtype, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Try to put `levels` (c, K), ascending, `steps` steps apart between first and last. Returns found, scale, zero."""
    span = (levels[:, -1] - levels[:, 0]).double()
    apart = (span / steps).clamp_min(torch.finfo(torch.float64).tiny)
    place = (levels - levels[:, :1]).double() / apart[:, None]
    far = torch.maximum(levels[:, -1].abs(), levels[:, 0].abs()).double()
    slack = 2 * steps * far * unit / span.clamp_min(torch.finfo(torch.float64).tiny)
    near = (span > 0) & (slack < 0.5) & ((place - place.round()).abs().amax(1) <= slack)
    found = torch.zeros_like(near)
    scale, zero = torch.ones_like(span, dtype=torch.float32), torch.zeros_like(span, dtype=torch.float32)
    which = near.nonzero().flatten()
    if len(which) == 0:
        return found, scale, zero
    some, lowest = levels[which], levels[which, :1]
    count = (far[which] / apart[which]).round()
    for more in (0, 1, -1):
        guess = (far[which] / (count + more).clamp_min(1)).clamp_max(torch.finfo(stored).max).to(stored)
        for ulp in (0, 1, -1):
            its_scale = _neighbour(guess, ulp).float()[:, None]
            its_zero = -(lowest / its_scale).round()
            values = ((some / its_scale).round() * its_scale).to(dtype).float()
            fits = ((some / its_scale).round() + its_zero).amax(1) <= steps
            good = (values == some).all(1) & fits & (its_zero[:, 0].abs() <= limit) & ~found[which]
            hit = which[good]
            found[hit], scale[hit], zero[hit] = True, its_scale[good, 0], its_zero[good, 0]
    return found, scale, zero


def _neighbour(scale: Tensor, ulp: int) -> Tensor:
    """Return the number `ulp` places after each positive number of a float format."""
    whole = {2: torch.int16, 4: torch.int32}[scale.element_size()]
    return (scale.view(whole) + ulp).clamp_min(1).view(scale.dtype)
