"""What of a checkpoint is wanted: a subfolder, a variant, a revision, the configs of a single file, adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Lora", "Selection"]


@dataclass(frozen=True)
class Lora:
    """A LoRA to be fused into the weights: a .safetensors file, a folder or a Hub id, and the weight it gets."""

    path: str
    weight: float = 1.0

    def __str__(self) -> str:
        return Path(self.path).stem if self.weight == 1.0 else f"{Path(self.path).stem} × {self.weight:g}"


@dataclass(frozen=True)
class Selection:
    """Which files of a checkpoint are taken, and what is fused into them.

    `subfolder` is where in a folder or a Hub repository the pipeline, or the component, lies; `variant` is in the
    files' names (``fp16``; empty: the plain ones, else what is there); `revision` is a branch, tag or commit.
    `config` is a pipeline folder or Hub id with the configs and tokenizers that a single file does not have.
    """

    subfolder: str = ""
    variant: str = ""
    revision: str = ""
    config: str = ""
    loras: tuple[Lora, ...] = ()

    @classmethod
    def of(cls, *, subfolder: str, variant: str, revision: str, config: str, loras: Sequence[Any]) -> "Selection":
        """Return the selection that a run file's settings say; a LoRA is a table with ``path`` and ``weight``.

        >>> Selection.of(subfolder="", variant="", revision="", config="", loras=[{"path": "a.safetensors"}]).loras
        (Lora(path='a.safetensors', weight=1.0),)
        """
        adapters = tuple(each if isinstance(each, Lora) else Lora(**each) for each in loras)
        return cls(subfolder, variant, revision, config, adapters)
