"""Folders that travel: whether another machine has the same one, and a copy of it where it does not."""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from q2.files import creating, lock, remove_unlocked

__all__ = ["Copies", "digest", "packed", "unpack"]

T = TypeVar("T")


def digest(folder: Path) -> str:
    """Return 16 hex digits over the names, sizes and times of a folder's files; empty where there is no folder.

    A shared folder has one digest on all machines, while another folder of the same path has another.
    """
    if not folder.is_dir():
        return ""
    found = sorted((str(path.relative_to(folder)), path.stat()) for path in folder.rglob("*") if path.is_file())
    lines = [f"{name}\0{state.st_size}\0{state.st_mtime_ns}" for name, state in found]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def packed(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder, name and content, one in memory at a time."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def unpack(folder: Path, files: Mapping[str, T], read: Callable[[T], bytes]) -> None:
    """Write a folder of files read by `read`, completely or not at all, unless the folder exists."""
    if folder.is_dir():
        return
    try:
        with creating(folder) as beside:
            for name, source in files.items():
                path = beside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read(source))
    except OSError:
        if not folder.is_dir():  # else another process was first
            raise


class Copies:
    """The folder of this machine that the workers of one search, which has a `token` of 32 hex digits, keep copies in.

    It is removed by `forget`, or, where nobody is left to say so, by the next worker of any search on this machine.
    """

    def __init__(self, token: str) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"q2-{token}"
        self._handle: int | None = None
        for left in self.folder.parent.glob("q2-*"):
            if left != self.folder and re.fullmatch("q2-[0-9a-f]{32}", left.name):
                remove_unlocked(left)

    def hold(self) -> None:
        """Make the folder if need be, and keep it from others as long as this process lives."""
        while self._handle is None:
            self.folder.mkdir(exist_ok=True)
            self._handle = lock(self.folder, shared=True)

    def forget(self) -> None:
        """Remove the copies."""
        shutil.rmtree(self.folder, ignore_errors=True)
