"""Numba as this package uses it: compiled at the first call, kept on disk, without the GIL."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled"]

F = TypeVar("F", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nnan", "nsz"}}


def compiled(function: F) -> F:
    """Compile at the first call; keep the machine code on disk where some folder is writable.

    Threads are Python's: numba's own die when two Python threads meet in them.
    """
    try:
        return cast(F, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # no writable folder for the cache
        return cast(F, numba.njit(**_OPTIONS)(function))
