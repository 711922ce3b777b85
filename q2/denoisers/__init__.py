"""Denoisers: how to load one, its pipeline, its example inputs and how its images are judged. One file a family."""

from q2.denoisers.base import Denoiser, Protocol, Samples, device_of, load

__all__ = ["Denoiser", "Protocol", "Samples", "device_of", "load"]
