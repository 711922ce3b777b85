"""Plugins: the hook specifications, the marker that implements them, and the manager that finds them."""

from q2.plugins.catalogue import Catalogue, Kind
from q2.plugins.current import current, use
from q2.plugins.manager import BUILT_IN, PluginInfo, Plugins
from q2.plugins.spec import hookimpl

__all__ = ["BUILT_IN", "Catalogue", "Kind", "PluginInfo", "Plugins", "current", "hookimpl", "use"]
