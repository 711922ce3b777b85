"""Tensors of a derived call: deterministic, in the model's dtype, where the model is."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from q2.denoisers.inputs.shapes import Shapes

__all__ = ["Values"]


class Values:
    """Make tensors for one model and one batch size."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._batch = shapes.batch
        self._first = shapes.first

    def _noise(self, *shape: int) -> Tensor:
        if self._shapes.device.type == "meta":
            return torch.empty(shape, dtype=self._shapes.dtype, device="meta")
        seed = torch.Generator().manual_seed(zlib.crc32(repr(shape).encode()))
        return torch.randn(shape, generator=seed).to(self._shapes.device, self._shapes.dtype)

    @property
    def _device(self) -> torch.device:
        """Where masks, numbers and positions are: models decide on them, so they have data beside a model without."""
        device = self._shapes.device
        return torch.device("cpu") if device.type == "meta" else device

    def _full(self, value: float, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.full(shape, value, dtype=dtype or self._shapes.dtype, device=self._device)

    def _arange(self, count: int) -> Tensor:
        return torch.arange(count, device=self._device)

    def _mask(self, count: int) -> Tensor:
        """Return a mask (batch, count) of the first two thirds."""
        kept = self._arange(count) < count - count // 3
        return kept.expand(self._batch, count).contiguous()

    def _embeds(self, count: int, *keys: str) -> Tensor | None:
        width = self._first(*keys)
        return self._noise(self._batch, count, int(width)) if width else None

    def _vector(self, *keys: str) -> Tensor | None:
        width = self._first(*keys)
        return self._noise(self._batch, int(width)) if width else None
