"""Files of reduced search spaces: the few options or variants of some layers or units that are searched.

AutoBuild (CVPR'24) keeps the best variants of every unit by a predictor's scores, then evaluates all remaining recipes
or searches among them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self, TypeVar

import pydantic

from q2.config import dotted, validate
from q2.errors import ConfigError, OptionError, did_you_mean, why
from q2.files import read_toml, write_text
from q2.quant.options import Option
from q2.search.space import Space, SpaceChoice, SpaceUnit
from q2.search.subject import Subject

__all__ = ["ReducedSpace", "UnitVariants"]

_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True)
class UnitVariants:
    """A unit's layers, and its variants, the best first; a variant has an option for every layer."""

    name: str
    layers: tuple[str, ...]
    variants: tuple[tuple[str, ...], ...]


class _UnitTable(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)
    name: str
    layers: list[str] = pydantic.Field(min_length=1)
    variants: list[list[str]] = pydantic.Field(min_length=1)


class _File(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)
    q2: Literal["space"]
    version: Literal[1]
    denoiser: str
    fingerprint: str = ""
    calibration: str = ""
    made: str = ""
    layers: dict[str, list[str]] = {}
    copies: dict[str, str] = {}
    units: list[_UnitTable] = []


@dataclass(frozen=True)
class ReducedSpace:
    """Options of `layers` and variants of `units`; other layers keep all options of the run file.

    `copies` maps layers to another layer with the same weights, whose option they take. `made` says how the space was
    made.
    """

    subject: Subject
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: tuple[UnitVariants, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    made: str = ""

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote, or one written by hand. Raises `ConfigError`: one line with file and key."""
        table = read_toml(Path(path), ConfigError)
        if table.get("q2") != "space":
            raise ConfigError(f"{path}: not a search space, expected q2 = 'space' in its first line")
        found = validate(_File, table, lambda key: f"{path}: {dotted(key)}" if key else str(path))
        units = []
        for unit in found.units:
            for variant in unit.variants:
                if len(variant) != len(unit.layers):
                    what = f"expected an option for each of its {len(unit.layers)} layers, not {len(variant)}"
                    raise ConfigError(f"{path}: units.{json.dumps(unit.name)}: {what}")
            variants = tuple(dict.fromkeys(map(tuple, unit.variants)))
            units.append(UnitVariants(unit.name, tuple(unit.layers), variants))
        layers = {name: tuple(dict.fromkeys(options)) for name, options in found.layers.items()}
        subject = Subject(found.denoiser, found.fingerprint, found.calibration)
        return cls(subject, layers, tuple(units), dict(found.copies), found.made)

    def save(self, path: str | Path) -> None:
        """Write the space as TOML, whole or not at all. Raises `ConfigError`."""
        lines = ['q2 = "space"', f"version = {_VERSION}"]
        head = {"denoiser": "", **self.subject.table(), **({"made": self.made} if self.made else {})}
        lines += [f"{key} = {_text(value)}" for key, value in head.items()]
        for title, table in (("layers", self.layers), ("copies", self.copies)):
            if table:
                lines += ["", f"[{title}]"]
                lines += [f"{_text(name)} = {_texts(value)}" for name, value in table.items()]
        for unit in self.units:
            lines += ["", "[[units]]", f"name = {_text(unit.name)}", f"layers = {_texts(unit.layers)}", "variants = ["]
            lines += [f"    {_texts(variant)}," for variant in unit.variants]
            lines += ["]"]
        try:
            write_text(Path(path), "\n".join(lines) + "\n")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {why(error)}") from error

    def united(self, other: "ReducedSpace") -> "ReducedSpace":
        """Return the union of two spaces. Raises `ConfigError` for spaces of different denoisers or units."""
        if (other.subject.denoiser, other.subject.fingerprint) != (self.subject.denoiser, self.subject.fingerprint):
            raise ConfigError(f"spaces of {self.subject} and of {other.subject} cannot be united")
        layers = {name: self.layers.get(name, ()) for name in (*self.layers, *other.layers)}
        layers = {name: _merged(own, other.layers.get(name, ())) for name, own in layers.items()}
        units = {unit.name: unit for unit in self.units}
        for unit in other.units:
            mine = units.get(unit.name, unit)
            if mine.layers != unit.layers:
                raise ConfigError(f"units.{json.dumps(unit.name)}: has other layers in the spaces to be united")
            units[unit.name] = replace(mine, variants=_merged(mine.variants, unit.variants))
        made = " and ".join(dict.fromkeys(filter(None, (self.made, other.made))))
        return ReducedSpace(self.subject, layers, tuple(units.values()), {**self.copies, **other.copies}, made)

    def applied(self, space: Space, denoiser: str) -> Space:
        """Return a denoiser's space, reduced.

        Raises `ConfigError`, one line, for another denoiser, a layer or option that the space does not have, and a
        layer that is named twice. A denoiser named by its class may have another name (`Recipe.check`).
        """
        mine = self.subject.denoiser
        if mine != denoiser and not (mine[:1].isupper() or denoiser[:1].isupper()):
            raise ConfigError(f"a search space of {mine!r}, not of {denoiser!r}")
        space = self._tied(space)
        options: dict[int, tuple[str, ...]] = {}
        for name, listed in self.layers.items():
            where = f"layers.{json.dumps(name)}"
            choice = _choice(space, name, where)
            found = tuple(dict.fromkeys(_option(space.choices[choice], text, where) for text in listed))
            if not found:
                raise ConfigError(f"{where}: expected one or more options")
            if options.setdefault(choice, found) != found:
                raise ConfigError(f"{where}: has other options than a layer with the same weights")
        units = []
        for unit in self.units:
            where = f"units.{json.dumps(unit.name)}"
            own = tuple(_choice(space, name, where) for name in unit.layers)
            taken = next((n for i, n in enumerate(unit.layers) if own[i] in options or own[i] in own[:i]), None)
            if taken is not None:
                raise ConfigError(f"{where}: layer {taken!r} has its options elsewhere in the file")
            rows = [
                [_option(space.choices[choice], text, where) for choice, text in zip(own, variant, strict=True)]
                for variant in unit.variants
            ]
            for choice, column in zip(own, zip(*rows, strict=True), strict=True):
                options[choice] = tuple(option for option in space.choices[choice].options if option in column)
            variants = (
                tuple(options[choice].index(text) for choice, text in zip(own, row, strict=True)) for row in rows
            )
            units.append(SpaceUnit(unit.name, own, tuple(dict.fromkeys(variants))))
        choices = [replace(choice, options=options.get(i, choice.options)) for i, choice in enumerate(space.choices)]
        return Space(tuple(choices), tuple(units))

    def _tied(self, space: Space) -> Space:
        """Return the space with `copies` tied to their layers, which also works if weights are not loaded."""
        choices: dict[str, SpaceChoice] = {choice.name: choice for choice in space.choices}
        for name, leader in self.copies.items():
            where = f"copies.{json.dumps(name)}"
            own, first = (space.choices[_choice(space, each, where)].name for each in (name, leader))
            if own != first and own in choices and first in choices:
                choices[first] = replace(choices[first], layers=(*choices[first].layers, *choices.pop(own).layers))
        return Space(tuple(choices.values()))


def _choice(space: Space, layer: str, where: str) -> int:
    if layer not in space.layers:
        raise ConfigError(f"{where}: no layer {layer!r} in the search space{did_you_mean(layer, space.layers)}")
    return space.layers[layer]


def _option(choice: SpaceChoice, text: str, where: str) -> str:
    """Return an option as the choice writes it. Raises `ConfigError` for an option that the choice does not have."""
    try:
        found = str(Option.parse(text))
    except OptionError as error:
        raise ConfigError(f"{where}: {error}") from error
    if found not in choice.options:
        may = f"{choice.name!r} may take {', '.join(choice.options)}"
        raise ConfigError(f"{where}: {text!r} is no option of the search space: {may}")
    return found


def _merged(mine: Iterable[T], theirs: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys((*mine, *theirs)))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _texts(values: str | Sequence[str]) -> str:
    return _text(values) if isinstance(values, str) else f"[{', '.join(map(_text, values))}]"
