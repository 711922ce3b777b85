"""Where a saved pipeline's quantizers are found: in the plugins of a `with` block, else in the installed ones."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from q2.plugins.manager import Plugins

__all__ = ["current", "use"]

_USED: ContextVar[Plugins | None] = ContextVar("q2_plugins", default=None)


@contextmanager
def use(plugins: Plugins | Sequence[str]) -> Iterator[Plugins]:
    """Find quantizers in `plugins`, or with local ``.py`` files and modules besides the installed ones, in the block.

    Raises `PluginError` for a module that is missing or broken.

    >>> with use(Plugins(entry_points=False)) as plugins:
    ...     current() is plugins
    True
    """
    found = plugins if isinstance(plugins, Plugins) else Plugins(plugins)
    before = _USED.set(found)
    try:
        yield found
    finally:
        _USED.reset(before)


def current() -> Plugins:
    """Return the plugins of the `with` block around, else the installed ones."""
    return _USED.get() or Plugins()
