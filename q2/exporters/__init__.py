"""Exporters: write a quantized denoiser for tools that do not know q2."""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.exporters.base import Exported, Exporter
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Exported", "Exporter"]
