"""Real jets (the hls4ml LHC jets): the HDF5 file of its authors, or the table that OpenML has (data set 42468)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from q2.errors import ConfigError, did_you_mean, why

__all__ = ["FEATURES", "read_jets"]

FEATURES = (
    "zlogz", "c1_b0_mmdt", "c1_b1_mmdt", "c1_b2_mmdt", "c2_b1_mmdt", "c2_b2_mmdt", "d2_b1_mmdt", "d2_b2_mmdt",
    "d2_a1_b1_mmdt", "d2_a1_b2_mmdt", "m2_b1_mmdt", "m2_b2_mmdt", "n2_b1_mmdt", "n2_b2_mmdt", "mass_mmdt",
    "multiplicity",
)  # fmt: skip
_CLASSES = ("g", "q", "w", "z", "t")
_TABLE = "t_allpar_new"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def read_jets(path: Path) -> tuple[Tensor, Tensor]:
    """Return features, float (N, 16), of mean 0 and deviation 1, and classes, long (N,), in the order g, q, w, z, t.

    An HDF5 file holds the table ``t_allpar_new`` with the features and the columns ``j_g`` to ``j_t``, which are 0 or
    1; OpenML's is an ARFF file with the features and a column ``class``. Raises `ConfigError` for a file that is
    missing, or of another layout.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {why(error)}") from error
    features, classes = _hdf5(path) if head == _HDF5 else _arff(path)
    if not np.isfinite(features).all():
        raise ConfigError(f"{path}: {int((~np.isfinite(features)).sum())} features are NaN or infinite")
    spread = features.std(0)
    features = (features - features.mean(0)) / np.where(spread > 0, spread, 1)
    return torch.tensor(features, dtype=torch.float32), torch.tensor(classes, dtype=torch.long)


def _hdf5(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(f"{path}: HDF5 needs h5py: pip install h5py") from error
    try:
        with h5py.File(path, "r") as file:
            if _TABLE not in file:
                raise ConfigError(f"{path}: expected the table {_TABLE!r}, found {', '.join(file) or 'nothing'}")
            table = file[_TABLE][()]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read as HDF5: {why(error)}") from error
    _check_columns(path, table.dtype.names or (), (*_named("j_", FEATURES), *(f"j_{name}" for name in _CLASSES)))
    ones = np.stack([table[f"j_{name}"] for name in _CLASSES], 1)
    if not (ones.sum(1) == 1).all():
        raise ConfigError(f"{path}: {int((ones.sum(1) != 1).sum())} jets are of no class, or of several")
    columns = _named("j_", FEATURES)
    return np.stack([table[name].astype(np.float64) for name in columns], 1), ones.argmax(1)


def _arff(path: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from scipy.io import arff

    try:
        table: Any = arff.loadarff(str(path))[0]
    except (arff.ArffError, NotImplementedError, UnicodeDecodeError, StopIteration, ValueError) as error:
        raise ConfigError(f"{path}: neither HDF5 nor an ARFF file as OpenML has it") from error
    _check_columns(path, table.dtype.names or (), (*FEATURES, "class"))
    labels = [label.decode() if isinstance(label, bytes) else str(label) for label in table["class"]]
    unknown = next((label for label in labels if label not in _CLASSES), None)
    if unknown is not None:
        raise ConfigError(f"{path}: a jet of class {unknown!r}, expected one of {', '.join(_CLASSES)}")
    classes = np.array([_CLASSES.index(label) for label in labels], np.int64)
    return np.stack([table[name].astype(np.float64) for name in FEATURES], 1), classes


def _named(prefix: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(prefix + name for name in names)


def _check_columns(path: Path, found: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    missing = next((name for name in wanted if name not in found), None)
    if missing is not None:
        raise ConfigError(f"{path}: no column {missing!r}{did_you_mean(missing, found)}")
