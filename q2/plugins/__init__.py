"""Plugins: the hook specifications, the marker that implements them, and the manager that finds them."""

from q2.plugins.manager import Catalogue, PluginInfo, Plugins
from q2.plugins.spec import hookimpl

__all__ = ["Catalogue", "PluginInfo", "Plugins", "hookimpl"]
