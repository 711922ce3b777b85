"""Which kind of checkpoint lies at a place: folders and Hub ids, or a single file."""

from pathlib import Path

from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.checkpoints.selection import Selection
from q2.denoisers.checkpoints.single import KnownConfig, SingleFile

__all__ = ["checkpoint_at"]


def checkpoint_at(where: str, selection: Selection | None = None, published: KnownConfig | None = None) -> Checkpoint:
    """Return the checkpoint at `where`. Raises `CheckpointError`; see `Checkpoint` and `SingleFile`."""
    if where and Path(where).is_file():
        return SingleFile(where, selection, published)
    return Checkpoint(where, selection)
