"""Folders that travel: whether another machine has the same one, and a copy of it where it does not."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from q2.files import creating

__all__ = ["digest", "packed", "unpack"]

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
