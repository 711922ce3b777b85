"""What passes require: checked by name before anything runs."""

from collections.abc import Iterator, Mapping

from q2.errors import PluginError, Q2Error
from q2.passes.base import Pass
from q2.passes.kinds import PASSES
from q2.plugins import Plugins

__all__ = ["all_required", "check_requires"]


def check_requires(kind: type[Pass], known: Mapping[str, type[Pass]], plugins: Plugins) -> None:
    """Check the prerequisites of a pass, and theirs: passes in `known`, or ones that plugins offer.

    Raises `PluginError` for a name that there is not, with the nearest, and for a pass that comes to require itself.
    """
    for _ in _found(kind, known, plugins, (kind.name,)):
        pass


def all_required(kind: type[Pass], known: Mapping[str, type[Pass]], plugins: Plugins) -> set[str]:
    """Return the names of the prerequisites of a pass, and of theirs; raises as `check_requires` does."""
    return set(_found(kind, known, plugins, (kind.name,)))


def _found(kind: type[Pass], known: Mapping[str, type[Pass]], plugins: Plugins, path: tuple[str, ...]) -> Iterator[str]:
    named = plugins.of(PASSES).called(kind.name)
    for name in kind.requires:
        if name in path:
            raise PluginError(f"{named} requires itself: {' → '.join((*path, name))}")
        try:
            required = known.get(name) or plugins.of(PASSES).load(name)
        except Q2Error as error:
            raise PluginError(f"{named} requires a pass that is not available: {error}") from error
        yield name
        yield from _found(required, known, plugins, (*path, name))
