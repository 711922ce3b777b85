"""Makes ``import q2`` enough for diffusers to load what q2 saved, without importing torch or diffusers now.

diffusers finds a quantizer by name in two tables of `diffusers.quantizers.auto`, and has no entry points for them;
`q2.denoisers.saving.quantizer` puts q2 there. If the tables are there already, that is done at once. Otherwise a finder
waits on `sys.meta_path` for this one module, lets it be imported as ever, has q2 put into its tables, and is gone.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["register"]

_TABLES, _QUANTIZER = "diffusers.quantizers.auto", "q2.denoisers.saving.quantizer"


def register() -> None:
    """Put q2 into diffusers' tables: now if they are there, else as soon as they are."""
    if _TABLES in sys.modules:
        importlib.import_module(_QUANTIZER)
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _TABLES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads as `inner` does, then q2's quantizer."""

    def __init__(self, inner: Loader) -> None:
        self.inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.inner
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        self.inner.exec_module(module)
        importlib.import_module(_QUANTIZER)
