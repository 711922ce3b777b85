"""The public names of q2's packages: signatures and docstrings."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import q2
from tools.site.markdown import code, first, linked, table, text_of

__all__ = ["MODULES", "api_page", "public_names"]

MODULES = (
    "q2",
    "q2.graph",
    "q2.passes",
    "q2.quant",
    "q2.denoisers",
    "q2.exporters",
    "q2.models",
    "q2.plugins",
    "q2.testing",
    "q2.search.metrics.base",
    "q2.search.strategies.base",
    "q2.search.engines.base",
    "q2.report",
    "q2.errors",
)
"""What a script or a plugin imports from: every package that offers names, and the bases of what plugins offer."""


def public_names(module: str) -> Iterator[tuple[str, object]]:
    """Yield the names that a module offers, and what they are."""
    found = importlib.import_module(module)
    yield from ((name, getattr(found, name)) for name in found.__all__)


def packages() -> Iterator[str]:
    """Yield q2's packages that offer names."""
    for found in pkgutil.walk_packages(q2.__path__, "q2."):
        if found.ispkg and getattr(importlib.import_module(found.name), "__all__", None):
            yield found.name


def api_page() -> str:
    """Return a section for every module, with its names; a name that an earlier module has is only listed."""
    parts: list[str] = []
    seen: dict[int, str] = {}
    for module in MODULES:
        doc = inspect.getdoc(importlib.import_module(module)) or ""
        parts += [f"## {module}", linked(doc.partition("\n\n")[0])]
        again = []
        for name, thing in public_names(module):
            if id(thing) in seen and callable(thing):
                again.append([code(name), code(seen[id(thing)])])
                continue
            seen[id(thing)] = f"{module}.{name}"
            parts += _thing(name, thing)
        parts += [table(["name", "the same as"], again)] if again else []
    return "\n\n".join(parts)


def _thing(name: str, thing: object) -> list[str]:
    if inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        head = f"class {name}({bases})" if bases else f"class {name}"
        if dataclasses.is_dataclass(thing):
            head += f"\n\n{name}{_signature(thing)}"
        members = [f"- {code(f'{key}{_signature(each)}')}: {linked(first(each))}" for key, each in _members(thing)]
        return [f"### {name}", f"```python\n{head}\n```", text_of(thing), "\n".join(members)]
    if callable(thing):
        return [f"### {name}", f"```python\n{name}{_signature(thing)}\n```", text_of(thing)]
    return [f"### {name}", f"A constant: {code(_plain(str(thing))[:80])}."]


def _members(kind: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods and properties that a class has of its own."""
    for key, each in vars(kind).items():
        plain = each.__func__ if isinstance(each, classmethod | staticmethod) else each
        plain = getattr(plain, "func", plain) if not inspect.isfunction(plain) else plain
        if not key.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
            yield key, plain


def _signature(thing: object) -> str:
    """Return a call's arguments without their types; nothing for a property."""
    if not callable(thing):
        return ""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(…)"
    bare = [
        each.replace(annotation=each.empty) for each in found.parameters.values() if each.name not in ("self", "cls")
    ]
    try:
        text = str(found.replace(parameters=bare, return_annotation=found.empty))
    except ValueError:
        return "(…)"
    return _plain(text)


def _plain(text: str) -> str:
    """Return a signature or value without addresses, so that every build is the same.

    >>> _plain("(draw=<function silent at 0x7f1f>, key=<function <lambda> at 0x7f20>, of=<class 'int'>)")
    '(draw=silent, key=…, of=int)'
    """
    text = re.sub(r"<function [\w.]*<lambda> at 0x[0-9a-f]+>", "…", text)
    return re.sub(r"<(?:\w+ object |function |class )?'?([\w.]+)'?(?: object)?(?: at 0x[0-9a-f]+)?>", r"\1", text)
