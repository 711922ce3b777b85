"""Public names have docstrings, which name the errors that are raised and the shapes of arrays.

Ruff's D rules leave out names that a module's ``__all__`` does not list.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.docs.docstrings import Modules, arrays_of, errors_of, lacks_shape, public_functions, read_modules, unnamed
from tests.docs.pages import ROOT

_OVERLOADS = ("overload", "hookimpl")


def undocumented(body: list[ast.stmt], place: str) -> Iterator[str]:
    """Yield public functions, methods and classes without a docstring; what is inside a function is private."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
        if not ast.get_docstring(node) and not marks & {*_OVERLOADS, "setter"}:
            yield f"{place}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{place}.{node.name}")


def missing(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    name = str(file.relative_to(ROOT))
    return [*([] if ast.get_docstring(tree) else [name]), *undocumented(tree.body, name)]


def test_public_names_have_docstrings() -> None:
    files = sorted((ROOT / "q2").rglob("*.py"))
    assert len(files) > 200
    assert [name for file in files for name in missing(file)] == []


def test_one_that_is_missing_is_found(tmp_path: Path) -> None:
    tree = ast.parse("class A:\n    'An A.'\n    def b(self): ...\n    def _c(self): ...\ndef d(): ...\n")
    assert list(undocumented(tree.body, "x")) == ["x.A.b", "x.d"]


@cache
def modules() -> Modules:
    return read_modules(ROOT, "q2")


def test_docstrings_name_the_errors_that_functions_raise() -> None:
    errors = errors_of(modules()["q2.errors"])
    assert errors["GuardError"] == {"GuardError", "TraceError", "Q2Error"}
    functions = [each for each in public_functions(modules()) if not each.module.startswith("q2.commands")]  # help
    assert len(functions) > 1500
    assert {str(each): missing for each in functions if (missing := unnamed(each, errors))} == {}


def test_docstrings_give_the_shapes_of_arrays() -> None:
    arrays = arrays_of(modules())
    assert "Indices" in arrays["q2.search.strategies.alone"]
    assert [str(each) for each in public_functions(modules()) if lacks_shape(each, arrays[each.module])] == []


def test_a_docstring_without_error_or_shape_is_found() -> None:
    source = """
from numpy.typing import NDArray
from other import Rows
Vector = NDArray[float]
class LocalError(Q2Error): ...
class A:
    'Raises `LocalError`.'
    def ok(self): raise LocalError("x")
def named(x: Rows):
    'Return (rows, n). Raises `Q2Error`.'
    raise errors.LocalError("x")
def inside(x: "Vector | None"):
    'Says nothing (see there), and raises inside only.'
    def inner(): raise LocalError("x")
def bare() -> list[Rows]:
    'Return rows.'
    raise LocalError("x") from None
def _private(x: Vector): raise LocalError("x")
"""
    tree = ast.parse(source)
    known = {"here": tree, "other": ast.parse("Rows = dict[str, Tensor]")}
    errors = errors_of(ast.parse("class Q2Error(Exception): ...\nclass LocalError(Q2Error): ..."))
    functions = list(public_functions({"here": tree}))
    assert [each.name for each in functions] == ["A.ok", "named", "inside", "bare"]
    assert {each.name: unnamed(each, errors) for each in functions if unnamed(each, errors)} == {"bare": ["LocalError"]}
    arrays = arrays_of(known)["here"]
    assert [each.name for each in functions if lacks_shape(each, arrays)] == ["inside", "bare"]
