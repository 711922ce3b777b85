"""Every command with its arguments and options, from the functions that typer turns into the command line."""

import inspect
import json
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from q2.cli import app
from tools.site.markdown import code, linked, table

__all__ = ["commands", "commands_page"]

_SHARED = ("help", "quiet", "verbose", "json")
"""Options of every command, which the page explains once."""


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, as in ``q2 search compare``, with what typer made of it."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        if not inner or getattr(command, "invoke_without_command", False):
            yield f"q2 {name}", command
        yield from ((f"q2 {name} {each}", leaf) for each, leaf in inner.items())


def commands_page() -> str:
    """Return a section for every command: what it does, how it is called, and its options."""
    return "\n\n".join(_section(name, command) for name, command in commands())


def _section(name: str, command: Any) -> str:
    own = [each for each in command.params if each.name not in _SHARED]
    arguments = [each for each in own if each.param_type_name == "argument"]
    call = " ".join([name, *(_argument(each) for each in arguments), "[OPTIONS]"])
    parts = [f"### {name}", linked(inspect.cleandoc(command.help or command.callback.__doc__ or ""))]
    parts.append(f"```text\n{call}\n```")
    if own:
        parts.append(table(["option", "default", "meaning"], [_row(each) for each in own]))
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    name = f"{_name(parameter)}{'...' if parameter.nargs != 1 else ''}"
    return name if parameter.required else f"[{name}]"


def _name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper()


def _row(parameter: Any) -> list[str]:
    if parameter.param_type_name == "argument":
        names, many = code(_name(parameter)), False
    else:
        names = ", ".join(code(each) for each in (*parameter.opts, *parameter.secondary_opts))
        many = parameter.multiple
    choices = _choices(parameter.type_descriptor.annotation)
    meaning = " ".join([parameter.help or "", f"One of {', '.join(map(code, choices))}." if choices else ""])
    return [names, _default(parameter, many=many), linked(meaning)]


def _choices(kind: Any) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(each.value) for each in kind]
    return [str(each) for each in get_args(kind)] if get_origin(kind) is Literal else []


def _default(parameter: Any, *, many: bool) -> str:
    if parameter.required:
        return "required"
    shown = getattr(parameter, "show_default", None)
    value = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    if isinstance(shown, str):
        return shown
    if value in (None, "", False) or many:
        return ""
    return code(value if isinstance(value, str) else json.dumps(value, default=str).strip('"'))
