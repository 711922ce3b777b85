"""What plugins offer to be quantized: denoisers; torch is not imported for their names."""

from typing import TYPE_CHECKING

from q2.plugins import Kind

if TYPE_CHECKING:
    from q2.denoisers.base import Denoiser

__all__ = ["DENOISERS"]

DENOISERS: "Kind[Denoiser]" = Kind("q2_denoisers", "q2.denoisers.base:Denoiser")
"""The denoisers that can be named in a run file."""
