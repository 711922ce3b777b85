"""What passes require: checked by name before anything runs."""

from collections.abc import Mapping

from q2.errors import PluginError, Q2Error
from q2.passes.base import Pass
from q2.plugins import Plugins

__all__ = ["check_requires"]


def check_requires(kind: type[Pass], known: Mapping[str, type[Pass]], plugins: Plugins) -> None:
    """Check the prerequisites of a pass, and theirs: passes in `known`, or ones that plugins offer.

    Raises `PluginError` for a name that there is not, with the nearest, and for a pass that comes to require itself.
    """
    _check(kind, known, plugins, (kind.name,))


def _check(kind: type[Pass], known: Mapping[str, type[Pass]], plugins: Plugins, path: tuple[str, ...]) -> None:
    named = plugins.passes.called(kind.name)
    for name in kind.requires:
        if name in path:
            raise PluginError(f"{named} requires itself: {' → '.join((*path, name))}")
        try:
            required = known.get(name) or plugins.passes.load(name)
        except Q2Error as error:
            raise PluginError(f"{named} requires a pass that cannot be had: {error}") from error
        _check(required, known, plugins, (*path, name))
