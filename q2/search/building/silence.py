"""Keep a library's own prints out of what q2 prints."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["silent_stdout"]


@contextmanager
def silent_stdout() -> Iterator[None]:
    """Drop what C code writes to the standard output; HiGHS leaves a line there that no option turns off."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError, AttributeError):  # closed: nothing to keep clean
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        with suppress(AttributeError, OSError, TypeError):  # a C library without fflush
            ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
