"""Objects that a run file names as ``"package:factory"``, and q2's own, which have short names."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from q2.errors import ConfigError, did_you_mean

__all__ = ["DATA", "MODELS", "Shipped", "called", "shipped_data", "shipped_model"]


@dataclass(frozen=True)
class Shipped:
    """A network that ships with q2: its factory, and the data that its weights were trained on."""

    factory: str
    data: str


MODELS: Mapping[str, Shipped] = {
    "jsc-tiny": Shipped("q2.models.jets:JscTiny", "jets"),
    "jsc-new": Shipped("q2.models.jets:JscNew", "jets"),
    "jsc-three-linear": Shipped("q2.models.jets:JscThreeLinear", "jets"),
    "digits-cnn": Shipped("q2.models.cnn:DigitsCnn", "digits"),
}

DATA: Mapping[str, str] = {"jets": "q2.models.data.jets:jets", "digits": "q2.models.data.digits:digits"}


def shipped_model(name: str) -> Shipped:
    """Return the network of a name. Raises `ConfigError`, with the nearest name.

    >>> shipped_model("jsc-tiny").data
    'jets'
    """
    if name not in MODELS:
        raise ConfigError(f"no model named {name!r}{did_you_mean(name, MODELS)} (there are: {', '.join(MODELS)})")
    return MODELS[name]


def shipped_data(name: str) -> str:
    """Return the factory of the data of a name. Raises `ConfigError`, with the nearest name."""
    if name not in DATA:
        raise ConfigError(f"no data named {name!r}{did_you_mean(name, DATA)} (there are: {', '.join(DATA)})")
    return DATA[name]


def called(place: str, arguments: Mapping[str, Any]) -> Any:
    """Import ``"package.module:factory"`` and call it with `arguments`.

    Raises `ConfigError` for a place that is not there, for arguments that it does not take, and for what it raises.

    >>> called("fractions:Fraction", {"numerator": 3})
    Fraction(3, 1)
    """
    module, colon, attribute = place.partition(":")
    if not colon or not module or not attribute:
        raise ConfigError(f"{place!r}: expected 'package.module:factory'")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ConfigError(f"{place!r} cannot be imported: {type(error).__name__}: {_line(error)}") from error
    if not callable(found):
        raise ConfigError(f"{place!r} is a {type(found).__name__}, expected a class or a function")
    _check_arguments(place, found, arguments)
    try:
        return found(**arguments)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{place!r} failed: {type(error).__name__}: {_line(error)}") from error


def _check_arguments(place: str, factory: Any, arguments: Mapping[str, Any]) -> None:
    try:
        taken = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # written in C
        return
    if any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        return
    for name in arguments:
        if name not in taken:
            raise ConfigError(f"arguments.{name}: {place!r} takes no such argument{did_you_mean(name, taken)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
