"""Which values a weight layer multiplies: the rows of its unfolded input, taken one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Unfolding"]


@dataclass(frozen=True)
class Unfolding:
    """How a weight layer makes rows of its input; two layers that read a tensor alike have equal ones.

    A row of a Linear is the last dimension, and `kernel` is empty. A row of a convolution is a patch, channels first,
    then the kernel's positions, as in ``weight.flatten(1)``; it holds all input channels, also where these are in
    groups. `padding` is (before, after) for every dimension.
    """

    channels: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    mode: str = "zeros"

    @classmethod
    def of(cls, module: nn.Module) -> Unfolding:
        """Read the geometry of a weight layer.

        >>> Unfolding.of(nn.Conv1d(4, 8, 3, padding="same")).padding
        ((1, 1),)
        """
        if isinstance(module, nn.Linear):
            return cls(module.in_features)
        assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        kernel, dilation = tuple(module.kernel_size), tuple(module.dilation)
        padding = module.padding
        if padding == "same":
            missing = [step * (size - 1) for size, step in zip(kernel, dilation, strict=True)]
            sides = tuple((total // 2, total - total // 2) for total in missing)
        elif isinstance(padding, str):
            sides = ((0, 0),) * len(kernel)
        else:
            sides = tuple((int(side), int(side)) for side in padding)
        return cls(module.in_channels, kernel, tuple(module.stride), dilation, sides, module.padding_mode)

    @property
    def length(self) -> int:
        """How many values a row has."""
        return self.channels * math.prod(self.kernel)

    def count(self, x: Tensor) -> int:
        """Return how many rows an input has: (..., channels) of a Linear, ([N], channels, *spatial) otherwise."""
        if not self.kernel:
            return math.prod(x.shape[:-1])
        return math.prod(self._places(x))

    def take(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return some rows of an input, (len(rows), length); nothing else is unfolded.

        `rows` are numbers below `count`, long, on the CPU: images first, then positions, the last dimension fastest.
        """
        rows = rows.to(x.device)
        if not self.kernel:
            return x.reshape(self.count(x), self.channels)[rows]
        x = self._batched(x)
        image, *position = torch.unravel_index(rows, self._places(x))
        offsets = torch.meshgrid(*(torch.arange(size, device=x.device) for size in self.kernel), indexing="ij")
        inside = torch.ones(1, 1, dtype=torch.bool, device=x.device)
        index: list[Tensor | slice] = [image[:, None], slice(None)]
        for dim, start in enumerate(position):
            size, low = x.shape[2 + dim], self.padding[dim][0]
            place = start[:, None] * self.stride[dim] - low + offsets[dim].flatten()[None] * self.dilation[dim]
            if self.mode == "reflect":
                place = size - 1 - (size - 1 - place.abs()).abs()
            elif self.mode == "circular":
                place = place % size
            elif self.mode == "zeros":
                inside = inside & (place >= 0) & (place < size)
            index.append(place.clamp(0, size - 1))
        patches = x[tuple(index)]  # (rows, kernel, channels)
        patches = patches.masked_fill(~inside[..., None], 0)
        return patches.transpose(1, 2).reshape(len(rows), self.length)

    def _places(self, x: Tensor) -> tuple[int, ...]:
        """Return the number of images, and of positions in every dimension."""
        x = self._batched(x)
        sizes = zip(x.shape[2:], self.kernel, self.stride, self.dilation, self.padding, strict=True)
        places = (
            (size + low + high - gap * (side - 1) - 1) // step + 1 for size, side, step, gap, (low, high) in sizes
        )
        return (x.shape[0], *(max(count, 0) for count in places))

    def _batched(self, x: Tensor) -> Tensor:
        return x if x.ndim == len(self.kernel) + 2 else x[None]
