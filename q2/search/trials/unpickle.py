"""Reads a pickle that holds plain values only: containers, numbers, text and NumPy arrays. Nothing in it is called.

Whatever a pickle names is looked up in a short list of stand-ins defined here, not imported; arrays and scalars are
rebuilt from their bytes, as lists and Python numbers.
"""

import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from q2.errors import TrialError, why

__all__ = ["read_pickle"]

_KINDS = "biufSU"


def read_pickle(path: str | Path, records: Collection[str] = ()) -> object:
    """Return what a pickle holds, as plain Python values. Raises `TrialError` for anything else, with one line.

    `records` are classes (``module.Class``) whose instances are read as dictionaries of their attributes.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _plain(_Unpickler(file, records).load(), {})
    except _RefusedError as error:
        raise TrialError(
            f"{path}: refused, {error}; only containers, numbers, text and NumPy arrays are read"
        ) from None
    except OSError as error:
        raise TrialError(f"{path}: cannot be read: {why(error)}") from error
    except Exception as error:  # what a damaged pickle raises is anybody's guess
        reason = " ".join(str(error).split())[:100]
        raise TrialError(f"{path}: not a pickle that can be read: {type(error).__name__}: {reason}") from None


class _RefusedError(Exception):
    """A pickle names something that is no plain value."""


class _Dtype:
    """Stands for `numpy.dtype`: made from a code such as ``f8``, then told its byte order."""

    def __init__(self, code: object, *_: object) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in _KINDS:
            raise _RefusedError(f"it holds an array of {self.dtype}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for `numpy.ndarray`: made empty, then told shape, dtype, order and bytes."""

    def __init__(self, *_: object) -> None:
        self.values: object = []

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.values = _rebuild(data, dtype, shape, "F" if fortran else "C")


def _rebuild(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> object:
    if 0 in shape:
        return []  # whatever its other sides claim to be
    return np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C").tolist()


def _scalar(dtype: _Dtype, data: bytes) -> object:
    return _rebuild(data, dtype, (), "C")


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, by which old protocols spell bytes."""
    if encoding != "latin1":
        raise _RefusedError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _empty() -> bytes:
    """Stands for `bytes`, by which old protocols spell no bytes at all."""
    return b""


class _Record:
    """Stands for an instance of a class that is read as its attributes, whatever it is made of."""

    def __init__(self, *_: object) -> None:
        self.attributes: dict[object, object] = {}

    def __new__(cls, *_: object) -> "_Record":
        made = super().__new__(cls)
        made.attributes = {}
        return made

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise _RefusedError("an object's state is no dictionary")
        self.attributes = state


class _Unpickler(pickle.Unpickler):  # it finds the stand-ins and nothing else
    def __init__(self, file: BinaryIO, records: Collection[str]) -> None:
        super().__init__(file)
        self.records = records

    def find_class(self, module: str, name: str) -> Any:
        known: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "collections.defaultdict": defaultdict,
            "builtins.list": list,
            "builtins.set": set,
            "builtins.dict": dict,
            "_codecs.encode": _encode,
            "__builtin__.bytes": _empty,
            "builtins.bytes": _empty,
            "numpy.ndarray": _Array,
            "numpy.dtype": _Dtype,
            "numpy.multiarray._reconstruct": _Array,
            "numpy.multiarray.scalar": _scalar,
            "numpy.numeric._frombuffer": _rebuild,
        }
        if f"{module}.{name}" in self.records:
            return _Record
        place = module.replace("numpy._core.", "numpy.").replace("numpy.core.", "numpy.")  # NumPy 2, NumPy 1
        if f"{place}.{name}" not in known:
            raise _RefusedError(f"it names '{module}.{name}'")
        return known[f"{place}.{name}"]


def _plain(value: object, done: dict[int, object]) -> object:
    """Return `value` without stand-ins; what is shared is converted once (`done`, by identity)."""
    if isinstance(value, _Array):
        return value.values
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    if id(value) not in done:
        if isinstance(value, _Record):
            done[id(value)] = _plain(value.attributes, done)
        elif isinstance(value, dict):
            done[id(value)] = {_plain(key, done): _plain(inner, done) for key, inner in value.items()}
        elif isinstance(value, list | tuple | set | frozenset):
            done[id(value)] = type(value)(_plain(inner, done) for inner in value)
        else:
            raise _RefusedError(f"it holds a {type(value).__name__.strip('_')}")
    return done[id(value)]
