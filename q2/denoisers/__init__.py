"""Denoisers: how to load one, its pipeline, its example inputs and how its images are judged. One file a family."""

from q2.denoisers.base import Denoiser, Protocol, Samples, Weights, device_of
from q2.denoisers.prompts import Ask
from q2.denoisers.registry import load

__all__ = ["Ask", "Denoiser", "Protocol", "Samples", "Weights", "device_of", "load"]
