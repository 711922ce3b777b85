"""The reference names and explains every command, option, setting, hook and thing that a run file can name."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from q2 import errors
from q2.descriptions import descriptions
from q2.plugins import Kind, spec
from q2.settings import keys_of
from tests.docs.pages import ROOT, SITE
from tools.site.api import MODULES, packages, public_names
from tools.site.commands import commands
from tools.site.hook import GENERATED, expanded
from tools.site.markdown import first
from tools.site.pictures import PICTURES, peers_rows, with_pictures
from tools.site.things import KINDS, loaded, sections

_MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)


def page(name: str) -> str:
    return expanded((ROOT / "docs" / name).read_text(encoding="utf-8"))


def test_every_generated_part_is_on_one_page() -> None:
    found = [name for each in SITE for name in _MARKER.findall(each.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(GENERATED)


def test_every_picture_is_on_a_page_and_drawn_by_the_build() -> None:
    text = "\n".join(each.read_text(encoding="utf-8") for each in SITE)
    found = set(re.findall(r"^<!-- picture: (\S+) ", text, re.MULTILINE))
    assert found == set(PICTURES)
    assert with_pictures("<!-- picture: sdxl.svg its flow graph -->") == "![its flow graph](pictures/sdxl.svg)"
    with pytest.raises(KeyError):
        with_pictures("<!-- picture: nothing.svg a thing -->")


def test_a_picture_is_drawn_from_the_numbers_of_its_page(tmp_path: Path) -> None:
    rows = peers_rows("digits-dit")
    assert {row["method"] for row in rows} >= {"q2 kmeans-c", "SDNQ", "HQQ", "torchao", "GGUF Q8_0"}
    (eight,) = (row for row in rows if row["method"] == "GGUF Q8_0")
    assert (eight["packed_bits"], eight["latent_sqnr"]) == (8.5, 33.08)
    for name in ("one.svg", "two.svg"):
        PICTURES["peers-digits-dit.svg"](tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "q2 kmeans-c" in (tmp_path / "one.svg").read_text(encoding="utf-8")


def test_every_command_and_option_is_explained() -> None:
    text = page("commands.md")
    for name, command in commands():
        assert f"### {name}\n" in text
        assert command.help
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name} has no help"
            assert parameter.name == "help" or any(
                f"`{each}`" in text for each in [*parameter.opts, parameter.name.upper()]
            )


def test_every_setting_is_explained() -> None:
    text = page("reference.md")
    inner = {kind for _, kind in sections()}
    for prefix, kind in sections():
        meaning = descriptions(kind)
        section = text.partition(f"### [{prefix}]\n" if prefix else "### Top level\n")[2].partition("\n### ")[0]
        for key, info in keys_of(kind).items():
            if info.annotation not in inner:
                name = next(name for name, each in kind.model_fields.items() if each is info)
                assert meaning.get(name), f"{kind.__name__}.{name} has no text below it"
                assert f"| `{key}` |" in section


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_everything_that_q2_offers_is_explained(kind: Kind[Any]) -> None:
    text = page("reference.md")
    for name, thing in loaded(kind).items():
        assert f"### {name}\n" in text or f"| `{name}` |" in text
        assert first(thing), f"{thing.__name__} has no docstring"
        meaning = descriptions(thing)
        for entry in dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ():
            assert meaning.get(entry.name), f"{thing.__name__}.{entry.name} has no text below it"
            assert entry.name == "rules" or f"| `{entry.name}` |" in text


def test_every_hook_and_error_is_explained() -> None:
    text = page("reference.md")
    hooks = [name for name in vars(spec) if name.startswith("q2_")]
    assert [name for name in hooks if f"`{name}(" not in text] == []
    kinds = [name for name, each in vars(errors).items() if inspect.isclass(each) and issubclass(each, errors.Q2Error)]
    assert [name for name in kinds if f"| `{name}` |" not in text] == []


def test_every_public_name_of_a_package_is_in_the_api() -> None:
    text = page("api.md")
    assert [name for name in packages() if name not in MODULES and name not in _INSIDE] == []
    for module in MODULES:
        assert importlib.import_module(module).__doc__
        for name, _ in public_names(module):
            assert f"### {name}\n" in text or f"| `{name}` |" in text


_INSIDE = ("q2.compat.mase", "q2.quant.formats", "q2.search.predictor")
"""Packages whose names have a page of their own: mase.md, predictor.md."""


def test_the_readme_names_its_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme
