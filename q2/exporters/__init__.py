"""Exporters: write a quantized denoiser for tools that do not know q2."""

from q2.exporters.base import Exported, Exporter

__all__ = ["Exported", "Exporter"]
