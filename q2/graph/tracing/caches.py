"""Functions that remember what they returned: a trace must neither read nor leave anything there."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from torch import nn

__all__ = ["without_caches"]

_Cached = type(functools.lru_cache(len))


@contextlib.contextmanager
def without_caches(model: nn.Module) -> Iterator[None]:
    """Take `functools.lru_cache` off the methods of a model's classes, and off the functions of their packages."""
    found = [
        (owner, name, value, function)
        for owner in _owners(model)
        for name, value in list(vars(owner).items())
        if (function := _uncached(value)) is not None
    ]
    try:
        for owner, name, _, function in found:
            setattr(owner, name, function)
        yield
    finally:
        for owner, name, value, _ in found:
            setattr(owner, name, value)


def _owners(model: nn.Module) -> list[Any]:
    kinds = {base for module in model.modules() for base in type(module).__mro__}
    packages = {kind.__module__.partition(".")[0] for kind in kinds} - {"torch", "builtins"}
    modules = [module for name, module in list(sys.modules.items()) if name.partition(".")[0] in packages]
    return [*(kind for kind in kinds if kind.__module__.partition(".")[0] in packages), *modules]


def _uncached(value: object) -> Any:
    """Return what a cached function computes with, also where a plain function has the cached one inside."""
    if isinstance(value, _Cached):
        return value.__wrapped__
    if type(value) is not FunctionType or not hasattr(value, "__wrapped__"):
        return None
    inside = (cell.cell_contents for cell in value.__closure__ or ())
    return next((content.__wrapped__ for content in inside if isinstance(content, _Cached)), None)
