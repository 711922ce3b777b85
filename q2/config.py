"""A run file: TOML to frozen, typed settings. What is wrong in it becomes one line that names the file and the key."""

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import pydantic

from q2.errors import ConfigError, did_you_mean
from q2.files import parse_toml, read_toml, toml_text
from q2.settings import Settings, Table, keys_of
from q2.trust import check_trusted

__all__ = [
    "DEFAULT",
    "Key",
    "RunFile",
    "Settings",
    "Table",
    "dotted",
    "flatten",
    "options_of",
    "shipped",
    "text_of",
    "to_toml",
    "validate",
]

DEFAULT = "digits-dit.toml"
Key = tuple[str, ...]
T = TypeVar("T")
_LIST = 'a list, as in ["a", "b"]'
_WORDS = {"an object": "a table", "a valid array": _LIST, "a valid tuple": _LIST, "a valid string": "text"}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


@dataclass(frozen=True)
class RunFile:
    """A run file as found, with its overrides. Precedence: default, then file, then override.

    Messages name an overridden key by `form`; `called` has those that an option or argument of their own said.

    >>> RunFile.load("digits-dit.toml", ["seed=11"]).settings.seed
    11
    """

    name: str
    folder: Path
    file: Table
    overrides: Table = field(default_factory=dict)
    form: str = "--set {}"
    called: Mapping[Key, str] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        config: str = DEFAULT,
        overrides: Sequence[str] | Mapping[str, object] = (),
        form: str = "--set {}",
    ) -> "RunFile":
        """Read `config`, a path or the name of a shipped run file, with overrides. Raises `ConfigError`.

        These are ``a.b=c`` as on the command line, or dotted keys with their values.
        """
        path = _find(config)
        file = read_toml(path, ConfigError, config)
        if path.parent != _configs():
            check_trusted(path, file, path.name)
        return cls(path.name, path.parent.absolute(), file, form=form).overridden(overrides)

    def overridden(self, overrides: Sequence[str] | Mapping[str, object]) -> "RunFile":
        """Return the same run with more overrides; see `load`. Raises `ConfigError`."""
        given = overrides.items() if isinstance(overrides, Mapping) else [(text, None) for text in overrides]
        table = self.overrides
        for key, value in given:
            named = self.form.format(key)
            found = _nested(key, value, named) if isinstance(overrides, Mapping) else _override(key, named)
            table = _merge(table, found)
        run = dataclasses.replace(self, overrides=table)
        _ = run.settings
        return run

    @property
    def settings(self) -> Settings:
        """The typed settings, their paths found. Raises `ConfigError` for an unknown key or a bad value."""
        settings = validate(Settings, _spaces(_merge(self.file, self.overrides)), self.where)
        found = settings.denoiser
        paths: Table = {key: self.find(getattr(found, key)) for key in ("checkpoint", "refiner")}
        if isinstance(found.config, str):
            paths["config"] = self.find(found.config)
        paths["loras"] = tuple(each.model_copy(update={"path": self.find(each.path)}) for each in found.loras)
        denoiser = found.model_copy(update=paths)
        modules = tuple(self.find(name) if name.endswith(".py") else name for name in settings.plugins.modules)
        plugins = settings.plugins.model_copy(update={"modules": modules})
        bank = settings.bank.model_copy(update={"path": self.find(settings.bank.path)})
        rows = settings.calibration.model_copy(update={"path": self.find(settings.calibration.path)})
        measured = settings.search.evaluation
        files = {key: self.find(getattr(measured, key)) for key in ("reference", "inception", "clip")}
        spaces = tuple(self.find(file) for file in settings.search.space.files)
        found_in: Table = {"space": settings.search.space.model_copy(update={"files": spaces})}
        found_in["evaluation"] = measured.model_copy(update=files)
        search = settings.search.model_copy(update=found_in)
        model = settings.model.model_copy(
            update={key: self.find(getattr(settings.model, key)) for key in ("weights", "saved")}
        )
        data = settings.data.model_copy(update={"path": self.find(settings.data.path)})
        changed = {
            "model": model,
            "data": data,
            "denoiser": denoiser,
            "plugins": plugins,
            "bank": bank,
            "calibration": rows,
            "search": search,
        }
        return settings.model_copy(update=changed)

    def find(self, path: str) -> str:
        """Return where `path` lies: beside the run file, else in the working folder, else just `path`."""
        found = (place / path for place in (self.folder, Path.cwd()) if path and os.path.exists(place / path))
        return str(next(found, path))

    def with_recipe(self, recipe: Path) -> "RunFile":
        """Return the same run with `recipe` in place of every quantize pass."""
        rule = {"by": "recipe", "recipe": str(recipe.absolute())}
        passes: Table = {}
        for title, table in self.file.get("passes", {}).items():
            if table.get("pass", title) == "quantize":
                passes["quantize"] = rule
            else:
                passes[title] = table
        called = {key: place for key, place in self.called.items() if key[:2] != ("passes", "quantize")}
        return dataclasses.replace(self, file={**self.file, "passes": passes | {"quantize": rule}}, called=called)

    def with_passes(self, passes: Table, called: Mapping[Key, str]) -> "RunFile":
        """Return the same run with other passes than the file's; `called` says where their keys are said.

        Overrides hold, and are named where they say a key.
        """
        said = {key: place for key, place in called.items() if len(key) <= 2 or _at(self.overrides, key) is None}
        return dataclasses.replace(self, file={**self.file, "passes": passes}, called={**self.called, **said})

    def with_saved(self, folder: str, denoiser: Table | None = None) -> "RunFile":
        """Return the same run with a folder that ``--save`` wrote, and ``--from`` names, as its checkpoint.

        `denoiser` is what the folder says of it, in the place of all that the file says but the device; overrides hold.
        """
        place = str(Path(folder).absolute()) if Path(folder).exists() else folder
        file = self.file
        if denoiser is not None:
            device = {key: value for key, value in file.get("denoiser", {}).items() if key == "device"}
            file = {**file, "denoiser": {**denoiser, **device}}
        overrides = _merge(self.overrides, {"denoiser": {"checkpoint": place}})
        called = {**self.called, ("denoiser", "checkpoint"): f"--from {folder}"}
        return dataclasses.replace(self, file=file, overrides=overrides, called=called)

    def where(self, key: Key) -> str:
        """Return how a message names `key`: after the file, and as an override's if one said it."""
        if key in self.called:
            return f"{self.name}, {self.called[key]}"
        if _at(self.overrides, key) is not None:
            return f"{self.name}, {self.form.format(dotted(key))}"
        for length in range(len(key) - 1, 0, -1):  # said with what it is in
            if key[:length] in self.called:
                return f"{self.name}, {self.called[key[:length]]}: {dotted(key[length:])}"
        return f"{self.name}: {dotted(key)}"

    def rows(self, default: Table, effective: Table) -> list[list[str]]:
        """Return the five columns name, default, file, override, effective; a row for each setting in effect."""
        tables = (default, self.file, self.overrides, effective)
        return [[dotted(key), *(_show(_at(table, key)) for table in tables)] for key in flatten(effective)]


def validate(kind: type[T], table: Mapping[str, object], where: Callable[[Key], str]) -> T:
    """Build `kind` (a pydantic model or a dataclass) from a TOML table, strictly. Raises `ConfigError`, one line."""
    try:
        return pydantic.TypeAdapter(kind).validate_json(json.dumps(table, default=str), strict=True)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
        first = next((entry for entry in found if entry["type"] in _UNKNOWN), found[0])
        key = tuple(str(part) for part in first["loc"])
        if first["type"] in _UNKNOWN:
            raise ConfigError(f"{where(key)}: unknown key{did_you_mean(key[-1], _keys(kind, key[:-1]))}") from None
        value = "" if first["type"] == "missing" else f", not {json.dumps(first['input'], default=str)[:60]}"
        problem = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        for theirs, ours in _WORDS.items():
            problem = problem.replace(theirs, ours)
        raise ConfigError(f"{where(key)}: {problem}{value}") from None


def shipped() -> tuple[str, ...]:
    """Return the names of the run files that come with q2."""
    return tuple(sorted(file.name for file in _configs().iterdir() if file.suffix == ".toml"))


def text_of(config: str) -> str:
    """Return the text of a run file, a path or the name of a shipped one. Raises `ConfigError`."""
    return _find(config).read_text(encoding="utf-8")


def options_of(kind: type) -> dict[str, str]:
    """Return the options of a pass or strategy, the fields of its dataclass, with their defaults as text.

    >>> from dataclasses import make_dataclass
    >>> options_of(make_dataclass("Size", [("rate", float), ("layers", str, "*")]))
    {'rate': 'required', 'layers': '"*"'}
    """
    found = {}
    for entry in dataclasses.fields(kind):
        given = entry.default
        if entry.default_factory is not dataclasses.MISSING:
            given = entry.default_factory()
        found[entry.name] = "required" if given is dataclasses.MISSING else json.dumps(given, default=str)
    return found


def flatten(table: Mapping[str, object], prefix: Key = ()) -> dict[Key, object]:
    """Return the leaves of nested tables, in order.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {('a', 'b'): 1, ('c',): 2}
    """
    leaves: dict[Key, object] = {}
    for name, value in table.items():
        inner = flatten(value, (*prefix, name)) if isinstance(value, Mapping) else {}
        leaves |= inner or {(*prefix, name): value}
    return leaves


def dotted(key: Key) -> str:
    """Return `key` as TOML writes it, with quotes around the parts that need them.

    >>> dotted(("passes", "quantize", "blocks.0"))
    'passes.quantize."blocks.0"'
    """
    return ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part) for part in key)


def to_toml(table: Mapping[str, object]) -> str:
    """Return `table` as TOML text, without empty values, which TOML does not have."""
    return toml_text({name: value for name, value in table.items() if value is not None})


def _configs() -> Path:
    return Path(str(resources.files("q2") / "configs"))


def _find(config: str) -> Path:
    path = Path(config)
    if os.path.isfile(path):
        return path
    packaged = _configs() / (config if config.endswith(".toml") else f"{config}.toml")
    if path.name == config and os.path.isfile(packaged):
        return packaged
    if os.path.isdir(path):
        raise ConfigError(f"{config}: is a folder, expected a TOML file")
    alike = [name for name in shipped() if did_you_mean(path.stem, [Path(name).stem])]  # the ending says nothing
    near = did_you_mean(config, alike)
    raise ConfigError(f"{config}: no such run file{near} (shipped: {', '.join(shipped())})")


def _override(text: str, named: str) -> Table:
    """Read ``a.b=c``: a TOML value, or plain text; where the setting is text it is that, in quotes or not."""
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ConfigError(f"{named}: expected key=value")
    try:
        key = _path(parse_toml(f"{name} = 0"))
    except ValueError:  # no TOML, or several keys
        raise ConfigError(f"{named}: {name!r} is no TOML key") from None
    kinds = _kinds(Settings, key)
    plain = f"{name} = {json.dumps(value)}"
    if str in kinds and not value.startswith(("'", '"', *("{" for kind in kinds if kind is dict))):
        return parse_toml(plain)
    for line in (f"{name} = {value}", plain):
        try:
            table = parse_toml(line)
        except tomllib.TOMLDecodeError:
            continue
        if not any(isinstance(leaf, date | time) for leaf in flatten(table).values()):
            return table
    raise ConfigError(f"{named}: {value!r} is neither TOML nor one line of text")


def _nested(key: str, value: object, named: str) -> Table:
    """Return the table that sets the setting at a dotted key; a number of numpy's is one of Python's."""
    try:
        path = _path(parse_toml(f"{key} = 0"))
    except ValueError:  # no TOML, or several keys
        raise ConfigError(f"{named}: expected a dotted key, such as 'search.trials'") from None
    table: Any = str(value) if isinstance(value, Path) else value
    table = table.item() if hasattr(table, "item") and getattr(table, "ndim", None) == 0 else table
    for part in reversed(path):
        table = {part: table}
    return dict(table)


def _path(table: object) -> Key:
    """Return the key that a table of one setting sets."""
    found: list[str] = []
    while isinstance(table, dict):
        ((part, table),) = table.items()
        found.append(part)
    return tuple(found)


def _kinds(kind: Any, path: Key) -> tuple[object, ...]:
    """Return the plain types that the setting at `path` takes, ``str`` for a choice of words; none if unknown.

    >>> _kinds(Settings, ("denoiser", "config")), _kinds(Settings, ("denoiser", "weights"))
    ((<class 'str'>, <class 'dict'>), (<class 'str'>,))
    """
    for part in path:
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel) and part in keys_of(kind):
            kind = keys_of(kind)[part].annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return ()
    if get_origin(kind) is Literal:
        return tuple(dict.fromkeys(type(value) for value in get_args(kind)))
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return tuple(get_origin(member) or member for member in members)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Table:
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        merged[name] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _spaces(table: Table) -> Table:
    """Return a run file's table with ``search.space = "file"``, or a list of files, as the table that it means."""
    search = table.get("search")
    space = search.get("space") if isinstance(search, dict) else None
    if not isinstance(search, dict) or not isinstance(space, str | list):
        return table
    return {**table, "search": {**search, "space": {"files": [space] if isinstance(space, str) else space}}}


def _at(table: object, key: Key) -> object:
    for part in key:
        table = table.get(part) if isinstance(table, Mapping) else None
    return table


def _keys(kind: object, path: Key) -> Iterable[str]:
    """Return the keys that `kind` knows at `path`, for the nearest match."""
    fields: dict[str, object] = {}
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        fields = {name: info.annotation for name, info in keys_of(kind).items()}
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
        fields = {entry.name: entry.type for entry in dataclasses.fields(kind)}
    if not path:
        return fields
    inner = fields.get(path[0]) if fields else (get_args(kind) or (None,))[-1]
    return _keys(inner, path[1:])


def _show(value: object) -> str:
    if value in (None, ""):
        return "–"
    plain = isinstance(value, str) or dataclasses.is_dataclass(value)
    return str(value) if plain else json.dumps(value, default=str)
