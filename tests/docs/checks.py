"""What can be said of a block of code without running it: its commands, options, settings and imports exist."""

import ast
import doctest
import importlib
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command

from q2.cli import app
from q2.config import RunFile, Settings, dotted, shipped, validate
from q2.errors import Q2Error
from q2.passes.kinds import PASSES
from q2.plugins import Plugins
from q2.settings import keys_of
from tools.site.things import sections

_PLACEHOLDER = re.compile(r"^(…|\.\.\.|COMMAND|-…)$")


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every q2 command of a shell block; comments and other programs are passed over."""
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(r"(\$ )?(\S+/)?q2 ", line):
            yield shlex.split(line.removeprefix("$ "), comments=True)[1:]


@cache
def command_line() -> Any:
    """Return the whole command line, as typer makes it."""
    return get_command(app)


def check_command(words: list[str]) -> None:
    """Fail for a command, an option or a setting that does not exist."""
    if not words or any(_PLACEHOLDER.match(word) for word in words[:1]):
        return
    command = command_line()
    own = {option for each in command.params for option in each.opts if getattr(each, "is_flag", False)}
    rest = list(itertools.dropwhile(lambda word: word in own, words))
    while rest and getattr(command, "commands", None) and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    if getattr(command, "commands", None) and rest and not rest[0].startswith("-"):
        raise AssertionError(f"no command {' '.join(words)!r}")
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    flags = {option for each in command.params if getattr(each, "is_flag", False) for option in each.opts}
    run, overrides = "digits-dit.toml", []
    while rest:
        word, _, value = rest.pop(0).partition("=")
        if not word.startswith("-") or word.lstrip("-").isdigit():
            continue
        if word not in known | {"--help"}:
            raise AssertionError(f"q2 {' '.join(words)}: no option {word}")
        if word in flags or word == "--help":
            continue
        value = value or (rest.pop(0) if rest else "")
        run = value if word == "--config" and value in shipped() else run
        overrides += [value] if word == "--set" and "…" not in value else []
    try:
        RunFile.load(run, overrides)
    except Q2Error as error:
        raise AssertionError(f"q2 {' '.join(words)}: {error}") from None


def check_toml(text: str) -> None:
    """Fail for TOML that is neither a run file, nor keys of one of its sections, a pyproject, or a file q2 writes."""
    table = tomllib.loads(text)
    if "project" in table or "q2" in table:
        return
    homes = [kind for _, kind in sections() if set(table) <= {*keys_of(kind), *kind.model_fields}]
    if not homes:
        raise AssertionError(f"no section has the keys {', '.join(table)}")
    if Settings in homes:
        _ = RunFile("a block", Path(), table).settings
    else:
        validate(homes[0], table, dotted)
    catalogue = Plugins(entry_points=False).of(PASSES)
    for title, options in table.get("passes", {}).items():
        name = options.get("pass", title)
        if name in catalogue:
            own = {key: value for key, value in options.items() if key != "pass"}
            catalogue.load(name).from_table(own, dotted)
        elif "plugins" not in table:
            raise AssertionError(f"no pass {name!r}")


def source_of(text: str) -> str:
    """Return the code of a Python block, which may be a dialogue."""
    if not text.lstrip().startswith(">>>"):
        return text
    return "".join(example.source for example in doctest.DocTestParser().get_examples(text))


def check_python(text: str) -> None:
    """Fail for code that does not compile, or that imports a name from q2 which is not there."""
    for node in ast.walk(ast.parse(source_of(text))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "q2":
            module = importlib.import_module(node.module or "")
            missing = [name.name for name in node.names if not hasattr(module, name.name)]
            if missing:
                importlib.import_module(f"{node.module}.{missing[0]}")
