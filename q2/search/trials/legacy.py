"""Trials of the reference code of Qua²SeDiMo (AAAI'25): its ``quant_cache.pkl`` and ``quant_configs/*.pkl``."""

from collections.abc import Mapping
from pathlib import Path

from q2.errors import OptionError, TrialError, did_you_mean
from q2.quant.options import Option
from q2.search.trials.compvis import to_diffusers
from q2.search.trials.trial import Trial
from q2.search.trials.unpickle import read_pickle

__all__ = ["METHODS", "read_legacy"]

METHODS: Mapping[str, str] = {"mse": "uaq", "kmeans": "kmeans-c", "kmeans_all": "kmeans-a"}
_SEED = 42


def read_legacy(path: str | Path) -> list[Trial]:
    """Return the trials of a ``quant_cache.pkl``, or the recipe of one of ``quant_configs`` as a trial without metrics.

    A cache is a list (or a dict) of dicts: ``config`` maps a layer's quantizer to [method-bits, full size, quantized
    size, error], every other number is a metric. A config maps it to method-bits. Methods and layers get q2's names:
    ``model.a.weight_quantizer_0``, ``mse-4`` is ``a#1``, ``uaq-4``. The metrics are the reference's own; its errors and
    its sizes are to be worked out again. Raises `TrialError`: one line with the file, the entry and the layer.
    """
    found = read_pickle(path)
    entries: list[tuple[str, object]]
    if isinstance(found, dict) and _is_config(found):
        entries = [("", {"config": found})]
    elif isinstance(found, dict):
        entries = [(f" entry {key!r}:", value) for key, value in found.items()]
    elif isinstance(found, list | tuple):
        entries = [(f" entry {index}:", value) for index, value in enumerate(found)]
    else:
        raise TrialError(f"{path}: holds a {type(found).__name__}, expected a list of trials or a configuration")
    return [_trial(entry, number, f"{path}:{where}") for number, (where, entry) in enumerate(entries)]


def _is_config(table: Mapping[object, object]) -> bool:
    return bool(table) and all(_method(value) for value in table.values())


def _method(value: object) -> str:
    """Return the ``mse-4`` of a layer's entry: itself, or the first of a list."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return first if isinstance(first, str) else ""


def _trial(entry: object, number: int, where: str) -> Trial:
    config = entry.get("config") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(config, dict) or not config:
        raise TrialError(f"{where} expected a dictionary whose 'config' maps layers to options")
    recipe: dict[str, str] = {}
    for key, value in config.items():
        layer = _layer(str(key))
        if layer in recipe:
            raise TrialError(f"{where} layer {layer!r} is there twice")
        recipe[layer] = _option(_method(value), f"{where} layer {layer!r}")
    metrics = {
        str(name): float(value)
        for name, value in entry.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    try:
        return Trial(recipe, metrics, seed=_SEED, number=number, strategy="reference")
    except TrialError as error:
        raise TrialError(f"{where} {error}") from None


def _layer(key: str) -> str:
    """Return q2's name of the layer: its module path, with ``#1`` for the part that reads the skip connection."""
    path, found, part = key.removeprefix("model.").partition(".weight_quantizer")
    return to_diffusers(path) + ("#1" if found and part == "_0" else "")


def _option(text: str, where: str) -> str:
    method, dash, bits = text.rpartition("-")
    quantizer = METHODS.get(method, method)
    if quantizer not in METHODS.values():
        raise TrialError(f"{where}: no method of the reference: {text!r}{did_you_mean(method, METHODS)}")
    try:
        return str(Option.parse(f"{quantizer}{dash}{bits}"))
    except OptionError as error:
        raise TrialError(f"{where}: {error}") from None
