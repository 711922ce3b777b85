"""Packages that import what they offer on first use (PEP 562), so that reading a run file imports no torch.

`q2.graph` offers `Fact`, which every pass names, beside `Graph`, which needs torch. Such a package writes its imports
as ever, but for a type checker alone, and has them done one by one, when a name is asked for::

    from typing import TYPE_CHECKING

    from q2.lazy import lazy

    if TYPE_CHECKING:
        from q2.graph.facts import Fact
        from q2.graph.graph import Graph
    else:
        __getattr__, __dir__ = lazy(__name__)

    __all__ = ["Fact", "Graph"]

Python 3.15 has this as a statement (PEP 810). docs/contributing.md says which modules stay without torch, and how.
"""

import ast
import importlib
import sys
from collections.abc import Callable
from functools import cache

__all__ = ["lazy"]


def lazy(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package, for the imports in its ``if TYPE_CHECKING:``.

    >>> find, names = lazy("q2.graph")
    >>> find("Fact").__module__, "Graph" in names()
    ('q2.graph.facts', True)
    """

    def find(name: str) -> object:
        if name.startswith("__") or name not in _imports(package):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = _imports(package)[name]
        value = getattr(importlib.import_module(module), attribute)
        setattr(sys.modules[package], name, value)
        return value

    return find, lambda: sorted(_imports(package))


@cache
def _imports(package: str) -> dict[str, tuple[str, str]]:
    """Return module and attribute by the name that the package gives them, read from its source."""
    spec = sys.modules[package].__spec__
    source = getattr(spec.loader, "get_source", lambda name: None)(package) if spec else None
    if source is None:
        raise ImportError(f"{package}: its source, which says what it imports, is not there")
    blocks = (node for node in ast.parse(source).body if isinstance(node, ast.If))
    checked = (node for node in blocks if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
    imports = (line for node in checked for line in node.body if isinstance(line, ast.ImportFrom))
    return {name.asname or name.name: (str(line.module), name.name) for line in imports for name in line.names}
