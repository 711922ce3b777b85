"""Weights as they lie in a checkpoint's safetensors files, read one at a time.

Files are read, not mapped: pages of a mapped file count as memory of the process, up to the whole checkpoint.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from q2.errors import CheckpointError
from q2.files import parse_json

__all__ = ["StoredWeights"]

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class _Place:
    file: Path
    start: int
    stop: int
    dtype: torch.dtype
    shape: tuple[int, ...]


class StoredWeights(Mapping[str, Tensor]):
    """The tensors of safetensors files by name; each is read, into memory of its own, when it is asked for."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Read the files' heads. Raises `CheckpointError` for one that is damaged."""
        self._places: dict[str, _Place] = {}
        for file in files:
            self._places |= _places(file)

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        tensor = torch.empty(place.shape, dtype=place.dtype)
        room: Any = tensor.view(-1).view(torch.uint8).numpy()
        with place.file.open("rb", buffering=0) as file:
            file.seek(place.start)
            if file.readinto(room) != place.stop - place.start:
                raise CheckpointError(f"{place.file}: is truncated, {name} ends beyond it")
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape without reading it."""
        return self._places[name].shape

    def renamed(self, names: Mapping[str, str]) -> "StoredWeights":
        """Return the tensors `names` has, under its keys; its values are what they are called here."""
        other = StoredWeights(())
        other._places = {new: self._places[old] for new, old in names.items()}
        return other

    def empty(self, name: str) -> Tensor:
        """Return a tensor of the same shape and dtype on meta."""
        place = self._places[name]
        return torch.empty(place.shape, dtype=place.dtype, device="meta")


def _places(path: Path) -> dict[str, _Place]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("its head is longer than it is")
            head = parse_json(file.read(length))
        places = {}
        for name, entry in head.items():
            if name != "__metadata__":
                start, stop = (8 + length + offset for offset in entry["data_offsets"])
                dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
                if not all(type(side) is int and side >= 0 for side in (start - 8 - length, stop - start, *shape)):
                    raise ValueError(f"{name} has no sizes")
                if stop - start != math.prod(shape) * dtype.itemsize or stop > path.stat().st_size:
                    raise ValueError(f"{name} does not fit")
                places[name] = _Place(path, start, stop, dtype, shape)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: is truncated or damaged ({error})") from error
    return places
