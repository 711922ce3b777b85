"""Recipes: one option per weight layer. The result that people keep, share and apply; a TOML file."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar, cast

from q2.errors import OptionError, RecipeError, did_you_mean, why
from q2.files import read_toml, toml_text, write_text
from q2.quant.options import Option
from q2.tables import drawn

__all__ = ["Recipe"]

_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """One option per weight layer, in execution order, for the denoiser and checkpoint it was made for.

    `fingerprint` identifies the checkpoint; `avg_bits` is the bits of a weight, codebooks, scales and zero points
    included; `calibration` the rows of inputs that the options are fitted to, as in a bank's plan, empty where they are
    fitted to weights alone. `sqnr_db` says, where it is known, how well each layer's option kept its weight, in dB, for
    comparison with other weights. `of` takes options as text. Raises `RecipeError` for a bad option, a size that is no
    number, and text with quotes, backslashes or control characters, which no name of a layer or denoiser has.

    >>> recipe = Recipe.of({"proj": "kmeans-c-4"}, "digits-dit", "", 4.5)
    >>> recipe.layers["proj"]
    Option(quantizer='kmeans-c', bits=4)
    >>> recipe
    recipe for 'digits-dit': 4.5 bits a weight
    layer    option
    -------  ----------
    proj     kmeans-c-4
    """

    layers: Mapping[str, Option]
    denoiser: str
    fingerprint: str
    avg_bits: float
    calibration: str = ""
    sqnr_db: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.avg_bits) and self.avg_bits >= 0):
            raise RecipeError(f"avg_bits: expected a finite number of bits, not {self.avg_bits}")
        heads = [(key, getattr(self, key)) for key in ("denoiser", "fingerprint", "calibration")]
        for key, text in (*heads, *(("layers", name) for name in self.layers)):
            if not text.isprintable() or set(text) & set("\\\"'"):
                raise RecipeError(f"{key}: expected printable text without quotes and backslashes, not {text!r}")
        options = {name: _option(name, value) for name, value in self.layers.items()}
        object.__setattr__(self, "layers", options)
        ratios = {name: float(ratio) for name, ratio in self.sqnr_db.items() if math.isfinite(ratio)}
        object.__setattr__(self, "sqnr_db", ratios)
        object.__setattr__(self, "avg_bits", float(self.avg_bits))

    def __repr__(self) -> str:
        title = f"recipe for {self.denoiser!r}: {self.avg_bits:.4g} bits a weight"
        return f"{title}\n{drawn(('layer', 'option'), [(name, str(each)) for name, each in self.layers.items()])}"

    @classmethod
    def of(  # noqa: PLR0917 (the fields in their order)
        cls,
        layers: Mapping[str, Option | str],
        denoiser: str,
        fingerprint: str,
        avg_bits: float,
        calibration: str = "",
        sqnr_db: Mapping[str, float] | None = None,
    ) -> "Recipe":
        """Make a recipe from options or their text, for type checkers that ask.

        >>> Recipe.of({"proj": "NA"}, "digits-dit", "", 16.0).layers["proj"].is_none
        True
        """
        return cls(cast(Mapping[str, Option], layers), denoiser, fingerprint, avg_bits, calibration, sqnr_db or {})

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe file. Raises `RecipeError`: one line with the file and the key, or the line and column."""
        table = read_toml(Path(path), RecipeError)
        try:
            return cls._from_table(table)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error

    @classmethod
    def _from_table(cls, table: Mapping[str, object]) -> "Recipe":
        if table.get("q2") != "recipe":
            raise RecipeError("not a recipe, expected q2 = 'recipe' in its first line")
        if table.get("version") != _VERSION:
            raise RecipeError(f"version: expected {_VERSION}, not {table.get('version')!r}")
        known = [entry.name for entry in fields(cls)]
        for key in table:
            if key not in ("q2", "version", *known):
                raise RecipeError(f"{key}: unknown key{did_you_mean(key, known)}")
        layers = _typed(table, "layers", dict, "a table")
        for name, option in layers.items():
            if not isinstance(option, str):
                raise RecipeError(f"{_key(name)}: expected an option such as 'kmeans-c-4', not {option!r}")
        average = table.get("avg_bits")
        if isinstance(average, bool) or not isinstance(average, int | float):
            raise RecipeError(f"avg_bits: expected a number{_found(table, 'avg_bits')}")
        denoiser, fingerprint = (_typed(table, key, str, "text") for key in ("denoiser", "fingerprint"))
        calibration = _typed({"calibration": ""} | dict(table), "calibration", str, "text")
        ratios = _typed({"sqnr_db": {}} | dict(table), "sqnr_db", dict, "a table")
        for name, ratio in ratios.items():
            if isinstance(ratio, bool) or not isinstance(ratio, int | float):
                raise RecipeError(f'sqnr_db."{name}": expected a number, not {ratio!r}')
        return cls.of(layers, denoiser, fingerprint, average, calibration, ratios)

    def save(self, path: str | Path) -> None:
        """Write the recipe as TOML: the whole file or, if that fails, none of it. Raises `RecipeError`."""
        head = {"q2": "recipe", "version": _VERSION, "denoiser": self.denoiser, "fingerprint": self.fingerprint}
        head |= {"calibration": self.calibration} if self.calibration else {}
        options = {name: str(option) for name, option in self.layers.items()}
        try:
            table = {**head, "avg_bits": self.avg_bits, "layers": options}
            table |= (
                {"sqnr_db": {name: round(ratio, 2) for name, ratio in self.sqnr_db.items()}} if self.sqnr_db else {}
            )
            write_text(Path(path), toml_text(table))
        except OSError as error:
            raise RecipeError(f"{path}: cannot be written: {why(error)}") from error

    def check(self, layer_names: Iterable[str], denoiser: str) -> None:
        """Raise `RecipeError` if the recipe is for another denoiser, or names a layer that is not among `layer_names`.

        A denoiser that goes by its class, as a checkpoint without a name does, is another name for one that has exactly
        these layers.

        >>> Recipe.of({"proj": "uaq-4"}, "digits-dit", "", 4.0).check(["proj_out"], "digits-dit")
        Traceback (most recent call last):
        q2.errors.RecipeError: layers."proj": no such weight layer in 'digits-dit'; did you mean 'proj_out'?
        """
        known = dict.fromkeys(layer_names)
        by_class = self.denoiser[:1].isupper() or denoiser[:1].isupper()
        if self.denoiser != denoiser and not (by_class and set(known) == set(self.layers)):
            raise RecipeError(f"the recipe is for {self.denoiser!r}, not for {denoiser!r}")
        for name in self.layers:
            if name not in known:
                raise RecipeError(f"{_key(name)}: no such weight layer in {denoiser!r}{did_you_mean(name, known)}")


def _option(name: str, value: Option | str) -> Option:
    try:
        return Option.parse(value) if isinstance(value, str) else value
    except OptionError as error:
        raise RecipeError(f"{_key(name)}: {error}") from error


def _typed(table: Mapping[str, object], key: str, kind: type[T], called: str) -> T:
    value = table.get(key)
    if not isinstance(value, kind):
        raise RecipeError(f"{key}: expected {called}{_found(table, key)}")
    return value


def _found(table: Mapping[str, object], key: str) -> str:
    return f", not {table[key]!r}" if key in table else ", but it is missing"


def _key(name: str) -> str:
    return f'layers."{name}"'
