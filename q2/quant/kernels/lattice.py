"""Finds even levels on which all values of a channel lie, if any: what makes ``uaq`` exact on its own output."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from q2.quant.dtypes import cast_to

__all__ = ["Format", "exact_levels", "likely_rows"]


@dataclass(frozen=True)
class Format:
    """How levels are held: codes 0 to `top`, values in `dtype`, scales in `stored`, zero points up to +-`limit`."""

    top: int
    dtype: torch.dtype
    stored: torch.dtype
    limit: int


def likely_rows(rows: Tensor, most: int) -> Tensor:
    """Return which channels of `rows` (C, n), on a CPU, have at most `most` distinct values in a quick, partial check.

    >>> likely_rows(torch.tensor([[2.0, 4.0, 8.0], [0.0, 0.0, 9.0]]), 2).tolist()
    [1]
    """
    ordered = np.sort(rows[:, : 2 * most].numpy(), axis=1)
    return torch.from_numpy(np.flatnonzero((ordered[:, 1:] != ordered[:, :-1]).sum(1) < most))


def exact_levels(rows: Tensor, form: Format) -> tuple[Tensor, Tensor, Tensor]:
    """Return for every channel whether it lies on even levels, and the scale and zero point of these, float32, (C,).

    `rows` (C, n) is float32, its values rounded to the format's dtype. Real weights have more distinct values than
    codes; those channels cost one short sort. The others are tried at every number of steps between their ends.

    >>> form = Format(3, torch.float32, torch.float16, 2**15 - 1)
    >>> exact_levels(torch.tensor([[2.0, 4.0, 8.0], [0.0, 1.0, 9.0]]), form)
    (tensor([ True, False]), tensor([2., 1.]), tensor([-1.,  0.]))
    """
    solved = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    scale, zero = torch.ones(len(rows), device=rows.device), torch.zeros(len(rows), device=rows.device)
    index, levels = _levels(rows, form.top + 1)
    far = levels.abs().amax(1).double()
    counts, likely = _candidates(levels, far, form)
    while len(index) and bool(likely.any()):
        first = likely.int().argmax(1, keepdim=True)
        found, its_scale, its_zero = _solve(levels, counts.gather(1, first) / far[:, None], form)
        found &= likely.any(1)
        hit = index[found]
        solved[hit], scale[hit], zero[hit] = True, its_scale[found], its_zero[found]
        likely = likely.scatter(1, first, False)
        index, levels, far, counts, likely = (part[~found] for part in (index, levels, far, counts, likely))
    return solved, scale, zero


def _levels(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return which rows have 2 to `most` distinct values, and these, ascending, the largest repeated: (c,), (c, K)."""
    index = (_fresh(rows[:, : 4 * most].sort(1).values).sum(1) <= most).nonzero().flatten()
    ordered = rows[index].sort(1).values
    fresh = _fresh(ordered)
    count = fresh.sum(1)
    keep = (count > 1) & (count <= most)
    index, ordered, fresh = index[keep], ordered[keep], fresh[keep]
    levels = ordered[:, -1:].repeat(1, int(count[keep].max()) if len(index) else 1)
    return index, levels.scatter_(1, fresh.cumsum(1) - 1, ordered)


def _fresh(ordered: Tensor) -> Tensor:
    fresh = torch.ones(ordered.shape, dtype=torch.bool, device=ordered.device)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return fresh


def _candidates(levels: Tensor, far: Tensor, form: Format) -> tuple[Tensor, Tensor]:
    """Return at how many steps from zero the farthest level may be, and whether four small levels agree: (c, 3 top)."""
    span = (levels[:, -1] - levels[:, 0]).double()
    steps = torch.arange(1, form.top + 1, device=levels.device)
    guess = (far / span)[:, None] * steps
    counts = torch.cat([guess.round() + change for change in (0, 1, -1)], 1)
    size = levels.abs().double()
    size = torch.where(size == 0, far[:, None], size)
    small = size.topk(min(4, size.shape[1]), largest=False).values
    place = (small / far[:, None])[:, None, :] * counts[:, :, None]
    whole = place.round()
    agree = ((place - whole).abs() <= whole * torch.finfo(form.dtype).eps * 1.01).all(2)
    return counts, agree & (counts >= 1) & (counts <= form.limit)


def _solve(levels: Tensor, density: Tensor, form: Format) -> tuple[Tensor, Tensor, Tensor]:
    """Find the scale that all `levels` (c, K) round from, at about `density` (c, 1) steps per one. Found, scale, zero.

    Every level bounds the scale from both sides; the stored number nearest to the middle of what is left is the one.
    """
    info = torch.finfo(form.dtype)
    size = levels.abs().double()
    mantissa, exponent = size.frexp()
    above = torch.ones_like(size).ldexp(exponent) * (info.eps / 4)
    below = torch.where(mantissa == 0.5, above / 2, above)  # numbers lie closer below a power of two
    above, below = (half.clamp_min(info.smallest_normal * info.eps / 2) for half in (above, below))
    step = 1 / density
    for sure in (
        0.25 / info.eps,
        torch.inf,
    ):  # places far from zero are uncertain until those near it gave a better step
        whole = (levels.double() / step).round()
        count = whole.abs()
        bound = (count > 0) & (count <= max(sure, 1))
        least = torch.where(bound, (size - below) / count, 0.0).amax(1, keepdim=True)
        most = torch.where(bound, (size + above) / count, torch.inf).amin(1, keepdim=True)
        step = torch.where(most < torch.inf, (least + most) / 2, step)
    scale = step[:, 0].clamp_max(torch.finfo(form.stored).max).to(form.stored).float()
    lowest = whole.amin(1)
    values = cast_to(whole.float() * scale[:, None], form.dtype).float()
    found = (
        (values == levels).all(1) & (whole.amax(1) - lowest <= form.top) & (lowest.abs() <= form.limit) & (scale > 0)
    )
    return found, scale, -lowest.float()
