"""The reference names every command, option, setting, pass, quantizer and hook that there is."""

import dataclasses
from pathlib import Path
from typing import Any

import pydantic
import pytest
from typer.main import get_command

from q2.cli import app
from q2.config import Settings
from q2.exporters.kinds import EXPORTERS
from q2.passes.kinds import PASSES
from q2.plugins import Kind, Plugins, spec
from q2.quant.kinds import QUANTIZERS
from q2.search.kinds import METRICS, STRATEGIES
from q2.settings import keys_of

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


def settings(model: type[pydantic.BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in keys_of(model).items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
            names += settings(kind, f"{prefix}{name}.")
        elif name != "passes":
            names.append(prefix + name)
    return names


def commands() -> list[str]:
    found = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [f"q2 {name} {sub}" for sub in inner] if inner else [f"q2 {name}"]
        for leaf in (*(inner or {}).values(), command):
            found += [option for parameter in leaf.params for option in parameter.opts if option[0] == "-"]
    return found


def test_every_command_and_option_is_documented() -> None:
    assert [name for name in commands() if f"`{name}" not in REFERENCE] == []


def test_every_setting_is_documented() -> None:
    assert [name for name in settings(Settings) if f"`{name}`" not in REFERENCE] == []


def test_every_hook_is_documented() -> None:
    hooks = [name for name in vars(spec) if name.startswith("q2_")]
    assert [name for name in hooks if f"`{name}(" not in REFERENCE] == []


@pytest.mark.parametrize("kind", [PASSES, QUANTIZERS, EXPORTERS, METRICS, STRATEGIES])
def test_every_pass_option_and_quantizer_is_documented(kind: Kind[Any]) -> None:
    catalogue = Plugins(entry_points=False).of(kind)
    for name in catalogue:
        assert f"`{name}`" in REFERENCE
        thing = catalogue.load(name)
        for entry in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ():
            assert entry.name == "rules" or f"`{entry.name}`" in REFERENCE


def test_the_readme_names_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme
