"""Public functions and what their docstrings lack, read from the source: errors raised and shapes of arrays."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Function",
    "Modules",
    "arrays_of",
    "errors_of",
    "lacks_shape",
    "public_functions",
    "read_modules",
    "unnamed",
]

Modules = Mapping[str, ast.Module]
_ARRAYS = frozenset({"Array", "NDArray", "Tensor", "ndarray"})
_ITEM = r"[\w.…*·/×+^-]+(?: [\w.…*·/×+^-]+){0,4}"
_SHAPE = re.compile(rf"\({_ITEM}(?:, {_ITEM})+,?\)|\({_ITEM},\)|\b(shapes?|scalars?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Function:
    """A public function or method, its module, and its docstring together with its class's."""

    module: str
    name: str
    node: ast.FunctionDef
    doc: str

    def __str__(self) -> str:
        return f"{self.module}: {self.name}"


def read_modules(root: Path, package: str) -> dict[str, ast.Module]:
    """Parse every module of a package in `root`; return the modules by dotted name."""
    found = {}
    for file in sorted((root / package).rglob("*.py")):
        parts = file.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def public_functions(modules: Modules) -> Iterator[Function]:
    """Yield public functions, methods and constructors."""
    for name, tree in modules.items():
        yield from _functions(tree.body, name)


def errors_of(tree: ast.Module) -> dict[str, set[str]]:
    """Return the error classes of a module, each with the names that a docstring may use: its own and its bases'."""
    found: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
            found[node.name] = {node.name}.union(*(found.get(_last(base), set()) for base in node.bases))
    return found


def unnamed(function: Function, errors: Mapping[str, set[str]]) -> list[str]:
    """Return the errors that a function's own body raises and its docstring does not name."""
    raised = {_last(node.exc) for node in _own(function.node.body) if isinstance(node, ast.Raise) and node.exc}
    return sorted(each for each in raised & set(errors) if not any(name in function.doc for name in errors[each]))


def arrays_of(modules: Modules) -> dict[str, set[str]]:
    """Return the names of array types in each module: numpy's, torch's, and aliases made of these."""
    found = {name: set(_ARRAYS) for name in modules}
    before = 0
    while before != sum(map(len, found.values())):
        before = sum(map(len, found.values()))
        for name, tree in modules.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module in found:
                    theirs = found[node.module]
                    found[name] |= {each.asname or each.name for each in node.names if each.name in theirs}
            found[name] |= set(_aliases(tree, found[name]))
    return found


def lacks_shape(function: Function, arrays: set[str]) -> bool:
    """Return whether a function takes or returns arrays and its docstring gives no shape, as ``(rows, channels)``."""
    args = function.node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    annotations = [function.node.returns, *(each.annotation for each in every if each)]
    return any(_names(each) & arrays for each in annotations if each) and not _SHAPE.search(function.doc)


def _functions(body: list[ast.stmt], module: str, owner: str = "", doc: str = "") -> Iterator[Function]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from _functions(node.body, module, f"{owner}{node.name}.", ast.get_docstring(node) or "")
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
            yield Function(module, owner + node.name, node, f"{ast.get_docstring(node) or ''}\n{doc}")


def _own(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body, except those of functions and classes inside it."""
    left: list[ast.AST] = list(body)
    while left:
        node = left.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            left += ast.iter_child_nodes(node)


def _aliases(tree: ast.Module, arrays: set[str]) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            names = _names(node.value)
            if names & arrays and "Callable" not in names:
                yield from (each.id for each in node.targets if isinstance(each, ast.Name))


def _names(annotation: ast.expr) -> set[str]:
    """Return the last parts of all names in an annotation, quoted ones too."""
    found = set[str]()
    for node in ast.walk(annotation):
        if isinstance(node, ast.Name | ast.Attribute):
            found.add(_last(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"\w+", node.value))
    return found


def _last(node: ast.AST) -> str:
    """Return the last part of a dotted name, or of the name that is called; empty for other expressions."""
    if isinstance(node, ast.Call):
        return _last(node.func)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
