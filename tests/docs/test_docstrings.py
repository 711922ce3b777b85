"""Public names have docstrings: ruff's D rules leave out names that a module's ``__all__`` does not list."""

import ast
from collections.abc import Iterator
from pathlib import Path

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
