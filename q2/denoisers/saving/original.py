"""What a folder with packed weights was made from: kept in its config, and read without loading weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.errors import CheckpointError

__all__ = ["KEPT", "SavedFolder"]

KEPT = ("name", "component", "arguments", "refiner")
"""The settings of the original's ``[denoiser]`` that hold for the saved folder as well."""


@dataclass(frozen=True)
class SavedFolder:
    """A pipeline folder that q2 saved: the `component` with packed weights, and the denoiser it was made from.

    `denoiser` has the settings of ``[denoiser]`` that load the original, `fingerprint` names its weights as they were
    loaded, `revision` is the commit of a Hub checkpoint. All are empty in folders of format 1.1 and before.
    """

    where: str
    component: str
    dtype: str = "float32"
    denoiser: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    revision: str = ""

    @classmethod
    def find(cls, where: str) -> "SavedFolder | None":
        """Return what a folder, or a Hub checkpoint, says; None if nothing is packed. Raises `CheckpointError`."""
        if Path(where).is_file():  # one .safetensors file has no packed weights
            return None
        checkpoint, found = Checkpoint(where), []
        for name in checkpoint.components:
            try:
                config = checkpoint.config(name).get("quantization_config")
            except CheckpointError:  # a part without a config, such as a tokenizer
                continue
            if isinstance(config, Mapping) and config.get("quant_method") == "q2":
                found.append(cls._read(where, name, config))
        return next((each for each in found if each.fingerprint), found[0] if found else None)

    @classmethod
    def _read(cls, where: str, component: str, config: Mapping[str, Any]) -> "SavedFolder":
        table = config.get("original")
        said: Mapping[str, Any] = table if isinstance(table, Mapping) else {}
        denoiser = said.get("denoiser")
        return cls(
            where,
            component,
            str(config.get("dtype", "float32")),
            denoiser if isinstance(denoiser, Mapping) else {},
            str(said.get("fingerprint", "")),
            str(said.get("revision", "")),
        )

    @property
    def original(self) -> str:
        """The original in words: its checkpoint or name, its revision, its fingerprint."""
        place = self.denoiser.get("checkpoint") or self.denoiser.get("name") or "random weights"
        revision = f" at {self.revision}" if self.revision else ""
        return f"{str(place)!r}{revision} (fingerprint {self.fingerprint})"
