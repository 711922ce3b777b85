"""What plugins offer to a run file: passes."""

from typing import TYPE_CHECKING

from q2.plugins import Kind

if TYPE_CHECKING:
    from q2.passes.base import Pass

__all__ = ["PASSES"]

PASSES: "Kind[Pass]" = Kind("q2_passes", "q2.passes.base:Pass")
"""The passes that can be named in a run file."""
