"""Finds plugins, checks them, and wraps every hook in a typed method."""

import importlib
import importlib.metadata
import importlib.util
import inspect
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Literal, TypeVar

import pluggy

from q2.errors import PluginError, did_you_mean, there_are
from q2.plugins import builtin, spec
from q2.plugins.api import check_api, declared_api
from q2.plugins.catalogue import Catalogue, Kind, Offer, one_line
from q2.version import version as own_version

__all__ = ["BUILT_IN", "PluginInfo", "Plugins"]

BUILT_IN = "q2"
"""The plugin of what q2 ships."""
_LOCAL = "local"
T = TypeVar("T")


@dataclass(frozen=True)
class PluginInfo:
    """A plugin as `q2 list plugins` shows it. `error` is None for a working one."""

    name: str
    version: str
    origin: str
    offers: tuple[str, ...] = ()
    error: str | None = None

    @property
    def kind(self) -> Literal["built in", "local", "entry point"]:
        """How it is found: it ships with q2, ``plugins.modules`` names it, or it is an installed package's."""
        if self.name == BUILT_IN:
            return "built in"
        return "local" if self.version == _LOCAL else "entry point"


class Plugins:
    """The plugins of one run.

    A broken plugin that is merely installed is kept in `infos` with its error, and is fatal only to a run that asks for
    something nobody offers; one that the run names itself (`modules`) is fatal at once.

    >>> from q2.passes.kinds import PASSES
    >>> "quantize" in Plugins(entry_points=False).of(PASSES)
    True
    """

    def __init__(
        self,
        modules: Sequence[str] = (),
        disable: Sequence[str] = (),
        *,
        entry_points: bool = True,
    ) -> None:
        """Register the built-ins, installed plugins and `modules` (``.py`` files, or importable names).

        Raises `PluginError` for a module that is missing or broken, and for a disabled plugin that does not exist.
        """
        self._manager = pluggy.PluginManager("q2")
        self._manager.add_hookspecs(spec)
        self._specs = frozenset(name for name in vars(spec) if name.startswith("q2_"))
        self._infos: dict[str, PluginInfo] = {}
        self._offers: dict[str, list[Offer[Any]]] = {hook: [] for hook in spec.OFFERS}
        self._failed: set[tuple[str, str]] = set()
        self._register(BUILT_IN, own_version(), "built in", builtin)
        found = importlib.metadata.entry_points(group="q2") if entry_points else ()
        for entry in found:
            if entry.name in disable:
                continue
            version = entry.dist.version if entry.dist else "unknown"
            try:
                check_api(declared_api(_file_of(entry.module)))
                self._register(entry.name, version, entry.value, entry.load())
            except Exception as error:  # whatever a plugin may raise
                self._infos[entry.name] = PluginInfo(entry.name, version, entry.value, error=_reason(error))
        known = {entry.name for entry in found}
        for name in disable:
            if name not in known:
                raise PluginError(f"plugins.disable: no installed plugin {name!r}{there_are(name, known)}")
        for module in modules:
            name = Path(module).name
            try:
                check_api(declared_api(module if module.endswith(".py") else _file_of(module)))
                self._register(name, _LOCAL, module, _import(module))
            except Exception as error:  # whatever a plugin may raise
                raise PluginError(f"plugins.modules: {name!r} is broken: {_reason(error)}") from error
        self._manager.check_pending()

    @property
    def infos(self) -> tuple[PluginInfo, ...]:
        """Every plugin that was found, the broken ones with their error."""
        return tuple(self._infos.values())

    def info(self, owner: str) -> PluginInfo:
        """Return what is known of the plugin that goes by a name; an offer's `owner` is one."""
        return self._infos[owner]

    def of(self, kind: Kind[T]) -> Catalogue[T]:
        """Return what all plugins offer of a kind, for example of `q2.passes.kinds.PASSES`."""
        broken = {info.name: info.error for info in self._infos.values() if info.error}
        return Catalogue(kind, tuple(self._offers[kind.hook]), broken)

    def before_pass(self, name: str, graph: object) -> list[str]:
        """Tell every plugin that the pass `name` is about to run; return a line for each that fails there."""
        return self._tell("q2_before_pass", name=name, graph=graph)

    def after_pass(self, name: str, graph: object, report: object, seconds: float) -> list[str]:
        """Tell every plugin that the pass `name` ran; return a line for each that fails there."""
        return self._tell("q2_after_pass", name=name, graph=graph, report=report, seconds=seconds)

    def after_trial(self, trial: spec.Trial, value: float | None, folder: Path) -> list[str]:
        """Tell every plugin of a trial and the target's value of it; return a line for each that fails there."""
        return self._tell("q2_after_trial", trial=trial, value=value, folder=folder, worth=value)

    def after_epoch(self, epoch: int, scores: Mapping[str, float], folder: Path) -> list[str]:
        """Tell every plugin of an epoch of a training; return a line for each that fails there."""
        return self._tell("q2_after_epoch", epoch=epoch, scores=scores, folder=folder)

    def _tell(self, hook: str, **facts: object) -> list[str]:
        """Call a hook of every plugin. One that raises stops neither the run nor the others.

        Returns a line with the place for each that did so for the first time.
        """
        said = []
        listeners = [impl.plugin_name for impl in getattr(self._manager.hook, hook).get_hookimpls()]
        for name in dict.fromkeys(reversed(listeners)):
            others = [plugin for other, plugin in self._manager.list_name_plugin() if other != name]
            try:
                self._manager.subset_hook_caller(hook, others)(**facts)
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                if (hook, name) not in self._failed:
                    where = f"{hook} of {name!r} failed at {place.filename}:{place.lineno}"
                    said.append(f"{where}: {one_line(error)} (said once; the run goes on)")
                self._failed.add((hook, name))
        return said

    def _register(self, name: str, version: str, origin: str, plugin: ModuleType) -> None:
        if name in self._infos:
            raise PluginError(
                f"the plugin name {name!r} is taken twice, by {self._infos[name].origin!r} and {origin!r}"
            )
        check_api(getattr(plugin, "q2_api", None))
        for hook in (hook for hook in dir(plugin) if hook.startswith("q2_") and callable(getattr(plugin, hook))):
            marks = self._manager.parse_hookimpl_opts(plugin, hook)
            if hook not in self._specs:
                if marks and marks["optionalhook"]:  # of another version of q2
                    continue
                raise PluginError(f"unknown hook {hook!r}{did_you_mean(hook, self._specs)}")
            if marks is None:
                raise PluginError(f"the hook {hook!r} lacks its @hookimpl mark")
        offers = {hook: _offers(plugin, hook, name) for hook in spec.OFFERS}
        self._manager.register(plugin, name)
        for hook, more in offers.items():
            self._offers[hook] += more
        named = tuple(f"{spec.OFFERS[hook]} {offer.name}" for hook, more in offers.items() for offer in more)
        self._infos[name] = PluginInfo(name, version, origin, named)


def _offers(plugin: ModuleType, hook: str, owner: str) -> list[Offer[Any]]:
    things: object = getattr(plugin, hook, dict)()
    if not isinstance(things, Mapping):
        raise PluginError(f"{hook} returned {type(things).__name__}, expected a mapping from name to class")
    for name, thing in things.items():
        if not isinstance(name, str) or not (inspect.isclass(thing) or (isinstance(thing, str) and ":" in thing)):
            raise PluginError(f"{hook}: {name!r} is {thing!r}, expected a class or 'package.module:Class'")
    return [Offer(name, owner, thing) for name, thing in things.items()]


def _file_of(module: str) -> str | None:
    """Return a module's file. Raises what importing the packages around it raises."""
    found = importlib.util.find_spec(module)
    return found.origin if found else None


class _Source(SourceFileLoader):
    """Compiles a local file whenever it is imported.

    Python's cache does not see a change within a second that keeps the size, and leaves a folder beside the file.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Return the compiled source."""
        return self.source_to_code(self.get_data(self.path), self.path)


def _import(name: str) -> ModuleType:
    """Import a local file (``my_pass.py``) or an importable module (``my_package.passes``)."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = Path(name)
    if not path.is_file():
        raise PluginError(f"no such file: {path}")
    found = importlib.util.spec_from_file_location(path.stem, path, loader=_Source(path.stem, str(path)))
    if found is None or found.loader is None:
        raise PluginError(f"not a Python file: {path}")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PluginError) else one_line(error)
