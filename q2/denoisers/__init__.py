"""Denoisers: how to load one, its pipeline, its example inputs and how its images are judged. One file a family."""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.denoisers.base import Denoiser, Protocol, Samples, Weights, device_of
    from q2.denoisers.prompts import Ask
    from q2.denoisers.registry import load
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Ask", "Denoiser", "Protocol", "Samples", "Weights", "device_of", "load"]
