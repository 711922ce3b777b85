"""What an exporter is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from q2.denoisers import Denoiser
from q2.passes.base import TextTable
from q2.progress import Progress, silent

__all__ = ["Exported", "Exporter"]


@dataclass(frozen=True)
class Exported:
    """What an export gave, for people: one line, and tables."""

    summary: str
    tables: tuple[TextTable, ...] = ()

    def __repr__(self) -> str:
        return "\n\n".join(map(str, (self.summary, *self.tables)))


class Exporter(ABC):
    """Writes a quantized denoiser in a format of its own. Plugins hand the class over in `q2_exporters`."""

    name: ClassVar[str]

    def check(self, out: Path) -> None:
        """Raise `Q2Error` if `out` is no place to write to; asked before anything is loaded."""

    @abstractmethod
    def export(self, denoiser: Denoiser, out: Path, progress: Progress = silent) -> Exported:
        """Write `denoiser`, whose quantized layers are simulated or packed, to `out`: all of it or nothing.

        The exporter may use the denoiser up. Raises `Q2Error` where it cannot be written.
        """
