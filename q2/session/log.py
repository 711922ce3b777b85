"""A run's log: a line for every trial, appended at once, so that it can be followed and goes on after a stop."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["NAME", "Log"]

NAME = "log.txt"


@dataclass(frozen=True)
class Log:
    """Appends lines, with the time, to ``log.txt`` in a run's folder. A log that cannot be written ends no run."""

    folder: Path

    def __call__(self, line: str) -> None:
        """Append a line."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / NAME).open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")
