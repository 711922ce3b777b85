"""What can be said of a block of code without running it: its commands, options, settings and imports exist."""

import ast
import doctest
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typer import Exit
from typer._click.exceptions import ClickException
from typer.main import get_command

from q2.cli import app
from q2.config import RunFile, Settings, dotted, shipped, validate
from q2.errors import Q2Error
from q2.passes.kinds import PASSES
from q2.plugins import Kind, Plugins
from q2.search.kinds import STRATEGIES
from q2.search.objective.constraints import Constraint
from q2.settings import keys_of
from tests.docs.pages import Block
from tools.site.things import sections

SUMS = ("avg_bits", "bops", "model_size", "quantized_size", "quantized_error", "output_error")
"""Metrics that constraints may bound."""


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every q2 command of a shell block; comments and other programs are passed over."""
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(r"(\$ )?(\S+/)?q2 ", line):
            yield shlex.split(line.removeprefix("$ "), comments=True)[1:]


@cache
def command_line() -> Any:
    """Return the whole command line, as typer makes it."""
    return get_command(app)


def parse(words: list[str]) -> Any:
    """Parse a command as q2 does, without running it, and return what it was given. Raises `AssertionError`."""
    context = command_line().make_context("q2", list(words))
    while getattr(context.command, "commands", None):
        rest = [*context._protected_args, *context.args]
        if not rest:
            break
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context.params


def check_command(words: list[str], plugins: bool = False) -> None:
    """Fail for what q2's parser refuses, and for a setting that does not exist; plugins may bring passes."""
    try:
        given = parse(words)
    except Exit:
        return
    except ClickException as error:
        raise AssertionError(f"q2 {' '.join(words)}: {error.format_message()}") from None
    run = str(given.get("config") or "digits-dit.toml")
    sets = [text for text in given.get("override") or () if "…" not in text]
    try:
        file = RunFile.load(run if run in shipped() else "digits-dit.toml", sets)
        passes = file.settings.passes
        if not plugins:
            check_passes(passes)
    except Q2Error as error:
        raise AssertionError(f"q2 {' '.join(words)}: {error}") from None


def check_shell(text: str) -> None:
    """Fail for a line of a block that runs which is no command of q2."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and Path(words[0]).name != "q2":
            raise AssertionError(f"runs {words[0]!r}, which is no command of q2; say <!-- not run: … -->")


def check_toml(text: str) -> None:
    """Fail for TOML that is neither a run file, nor keys of one of its sections, a pyproject, or a file q2 writes."""
    table = tomllib.loads(text)
    if "project" in table or "q2" in table:
        return
    homes = [kind for _, kind in sections() if set(table) <= {*keys_of(kind), *kind.model_fields}]
    if not homes:
        raise AssertionError(f"no section has the keys {', '.join(table)}")
    if Settings not in homes:
        validate(homes[0], table, dotted)
        return
    settings = RunFile("a block", Path(), table).settings
    if "plugins" not in table:
        check_passes(table.get("passes", {}))
    for title, options in settings.search.strategies.items():
        own = {key: value for key, value in options.items() if key != "strategy"}
        named(STRATEGIES, str(options.get("strategy", title))).from_table(own, dotted)
    for constraint in settings.search.constraints:
        Constraint.parse(constraint, SUMS)


def check_passes(table: Mapping[str, Any]) -> None:
    """Fail for a pass that there is not, or an option that it does not have."""
    for title, options in table.items():
        own = {key: value for key, value in options.items() if key != "pass"}
        named(PASSES, str(options.get("pass", title))).from_table(own, dotted)


def named(kind: Kind[Any], name: str) -> Any:
    """Return q2's own thing of a name. Raises `Q2Error`."""
    return Plugins(entry_points=False).of(kind).load(name)


def check_json(text: str) -> None:
    """Fail for what is neither JSON, nor the inside of an object, nor one object a line."""
    try:
        json.loads(text)
    except ValueError:
        if text.startswith('"'):
            json.loads(f"{{{text}}}")
        else:
            [json.loads(line) for line in text.splitlines()]


def check_block(block: Block) -> None:
    """Fail for a block that cannot be right, whether it runs or not."""
    if block.language == "bash":
        if not block.reason:
            check_shell(block.text)
        for words in command_lines(block.text):
            check_command(words, plugins="plugin" in block.text)
    elif block.language == "toml":
        check_toml(block.text)
    elif block.language == "python":
        check_python(block.text)
    elif block.language == "json":
        check_json(block.text)


def source_of(text: str) -> str:
    """Return the code of a Python block, which may be a dialogue."""
    if not text.lstrip().startswith(">>>"):
        return text
    return "".join(example.source for example in doctest.DocTestParser().get_examples(text))


def check_python(text: str) -> None:
    """Fail for code that does not compile, or that imports a module, or a name of q2, which is not there."""
    for node in ast.walk(ast.parse(source_of(text))):
        if isinstance(node, ast.Import):
            missing = [name.name for name in node.names if not find_spec(name.name.partition(".")[0])]
            assert not missing, f"no module {', '.join(missing)}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "q2":
            missing = [name.name for name in node.names if not is_there(node.module or "", name.name)]
            assert not missing, f"{node.module} has no {', '.join(missing)}"


def is_there(module: str, name: str) -> bool:
    """Return whether a module has a name; it is imported only where its source does not say."""
    spec = find_spec(module)
    assert spec, f"no module {module}"
    for node in ast.parse(Path(spec.origin or "").read_text(encoding="utf-8")).body:
        names = [getattr(node, "name", ""), *(getattr(target, "id", "") for target in getattr(node, "targets", ()))]
        names += [alias.asname or alias.name for alias in getattr(node, "names", ()) if isinstance(alias, ast.alias)]
        if name in names:
            return True
    return hasattr(importlib.import_module(module), name) or bool(find_spec(f"{module}.{name}"))
