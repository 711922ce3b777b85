"""Makes ``import q2`` enough for diffusers and transformers to load what q2 saved, without importing them or torch now.

Both find a quantizer by name in two tables, of `diffusers.quantizers.auto` and `transformers.quantizers.auto`, and have
no entry points for them; `q2.denoisers.saving.quantizer` and `q2.denoisers.saving.transformers` put q2 there. If the
tables are there already, that is done at once. Otherwise a finder waits on `sys.meta_path` for each of these modules,
lets it be imported as ever, has q2 put into its tables, and is gone. transformers gets a stand-in that imports the rest
when it first meets a config of q2's.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["register"]


def register() -> None:
    """Put q2 into the tables: now if they are there, else as soon as they are."""
    for name, put in _TABLES.items():
        if name in sys.modules:
            put(sys.modules[name])
        elif not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder(name))


def _into_diffusers(_: ModuleType) -> None:
    importlib.import_module("q2.denoisers.saving.quantizer")


def _into_transformers(module: ModuleType) -> None:
    module.AUTO_QUANTIZATION_CONFIG_MAPPING.setdefault("q2", _Later)
    module.AUTO_QUANTIZER_MAPPING.setdefault("q2", _Later)


_TABLES: dict[str, Callable[[ModuleType], None]] = {
    "diffusers.quantizers.auto": _into_diffusers,
    "transformers.quantizers.auto": _into_transformers,
}


class _Later:
    """Stands in transformers' tables for the config, until one is read: then the real entries are put there."""

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **kwargs: Any) -> Any:
        """Return the config."""
        module = importlib.import_module("q2.denoisers.saving.transformers")
        return module.Q2Config.from_dict(config_dict, **kwargs)


class _Finder(MetaPathFinder):
    """Waits for the module with the tables."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self.name)
        return spec


class _Loader(Loader):
    """Loads as `inner` does, then puts q2 into the tables."""

    def __init__(self, inner: Loader, name: str) -> None:
        self.inner, self.name = inner, name

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.inner
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        self.inner.exec_module(module)
        _TABLES[self.name](module)
