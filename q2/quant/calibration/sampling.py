"""A uniform sample of a stream of rows of unknown length: the rows of least random priority."""

from collections.abc import Callable
from hashlib import sha256

import torch
from torch import Tensor

__all__ = ["Sample"]

_TOP = 2**62


class Sample:
    """Up to `size` rows of all that are offered, each set of that many equally likely; the same on any machine.

    Every row gets a random priority from a generator of its own seed, and the `size` smallest stay. `seen` counts the
    rows that were offered.

    >>> sample = Sample(2, "seed 0")
    >>> for start in (0, 50):
    ...     sample.offer(50, lambda rows: (rows + start)[:, None])
    >>> sample.seen, sample.values().shape
    (100, torch.Size([2, 1]))
    """

    def __init__(self, size: int, seed: str) -> None:
        digest = sha256(seed.encode()).digest()
        self._generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        self.size, self.seen = size, 0
        self._keys = torch.empty(0, dtype=torch.long)
        self._order = torch.empty(0, dtype=torch.long)
        self._values: Tensor | None = None

    def offer(self, count: int, take: Callable[[Tensor], Tensor]) -> None:
        """Offer `count` rows; `take` returns the rows of given numbers, (n, length), and is called for rows that stay.

        Rows that stay are copied to the CPU in their own dtype.
        """
        keys = torch.randint(_TOP, (count,), generator=self._generator)
        held = len(self._keys)
        limit = int(self._keys.max()) if held and held == self.size else _TOP
        low = (keys < limit).nonzero().flatten()
        joined = torch.cat([self._keys, keys[low]])
        stays = torch.zeros(len(joined), dtype=torch.bool)
        stays[joined.argsort(stable=True)[: self.size]] = True
        rows = low[stays[held:]]
        if len(rows):
            self._place((~stays[:held]).nonzero().flatten(), keys[rows], rows + self.seen, take(rows).detach().cpu())
        self.seen += count

    def values(self) -> Tensor | None:
        """Return the rows that stayed, (n, length), in the order in which they were offered; None if there are none."""
        return None if self._values is None else self._values[self._order.argsort()]

    def _place(self, free: Tensor, keys: Tensor, order: Tensor, values: Tensor) -> None:
        """Put rows into the places that are free, and the others behind."""
        n = len(free)
        self._keys[free], self._order[free] = keys[:n], order[:n]
        self._keys, self._order = torch.cat([self._keys, keys[n:]]), torch.cat([self._order, order[n:]])
        if self._values is None:
            self._values = values.clone()
            return
        self._values[free] = values[:n]
        if len(values) > n:
            self._values = torch.cat([self._values, values[n:]])
