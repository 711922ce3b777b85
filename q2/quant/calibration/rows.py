"""Rows of weight layers' inputs on disk: a sample of what went by while images were denoised.

Layers that read the same tensor in the same way are a group and share rows. Images are drawn in batches; every batch
has one file for each group, so that a run that is stopped goes on behind the last batch that was complete.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from q2.errors import CalibrationError, did_you_mean, why
from q2.files import read_json, replacing, write_json

__all__ = ["INDEX", "RowPlan", "RowStore", "Rows"]

INDEX = "index.json"
_VERSION, _OWNER = 1, "rows"
_MOST = 1_000_000
"""How many images an index may speak of: what is read of it grows with them."""
Seen = Mapping[str, Sequence[int]]
"""How many rows of every group went by in each batch that is complete."""


@dataclass(frozen=True)
class Rows:
    """Rows of a layer's input: `values` (n, inputs), float32, of `seen` that went by while `images` were denoised.

    `inputs` is the last dimension of a Linear's input; of a convolution all input channels times the kernel's
    positions, in the order of ``weight.flatten(1)`` without groups. Padding is part of a row.
    """

    values: Tensor
    seen: int
    images: int


@dataclass(frozen=True)
class RowPlan:
    """What rows are of: which layers of which weights, in which dtype, and how the images are drawn.

    `weights` is the fingerprint of the denoiser's weights, `prompts` of what is drawn; `rows` is how many rows of every
    group are kept at most. `layers` says which group a layer belongs to; a group is named after its first layer.

    >>> plan = RowPlan("dit", "ab12", "float32", 20, 12, 4096, 20_000, 8, "", "", {})
    >>> plan.batches, plan.share(0), plan.share(2)
    ([range(0, 8), range(8, 16), range(16, 20)], 1638, 820)
    """

    denoiser: str
    weights: str
    dtype: str
    images: int
    steps: int
    rows: int
    seed: int
    batch: int
    prompts: str
    refiner: str
    layers: Mapping[str, str]

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over everything in the plan."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def batches(self) -> list[range]:
        """The numbers of the images of every batch."""
        return [range(i, min(i + self.batch, self.images)) for i in range(0, self.images, self.batch)]

    def share(self, batch: int) -> int:
        """Return how many rows of a group batch number `batch` may keep: in proportion to its images, `rows` in all."""
        images = self.batches[batch]
        return self.rows * images.stop // self.images - self.rows * images.start // self.images

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups, in the order of their first layers."""
        return tuple(dict.fromkeys(self.layers.values()))

    def differs(self, other: "RowPlan") -> str:
        """Say, with both values, in what another plan differs; empty where it does not.

        >>> plan = RowPlan("dit", "ab12", "float32", 20, 12, 4096, 20_000, 4, "", "", {})
        >>> plan.differs(RowPlan("dit", "ab12", "float32", 20, 8, 4096, 20_000, 4, "", "", {}))
        'steps 8, not 12'
        """
        theirs = asdict(other)
        for key, mine in asdict(self).items():
            if mine != theirs[key]:
                return f"other {key}" if key in ("layers", "prompts") else f"{key} {theirs[key]}, not {mine}"
        return ""


class RowStore:
    """Rows on disk; they are read when a layer is asked for, and not kept."""

    def __init__(self, folder: Path, plan: RowPlan, seen: Seen) -> None:
        """See `open`."""
        self.folder, self.plan, self._seen = folder, plan, seen

    @classmethod
    def open(cls, folder: str | Path) -> "RowStore":
        """Open the rows in a folder.

        Raises `CalibrationError`, one line, for a folder that holds none, of another version, damaged, or not complete.
        """
        path = Path(folder)
        plan, seen = read_index(path)
        missing = sum(not is_complete(path, plan, seen, batch) for batch in range(len(plan.batches)))
        if missing:
            raise CalibrationError(f"{path}: lacks {missing} of {len(plan.batches)} batches; q2 calibrate goes on")
        return cls(path, plan, seen)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the weight layers, in execution order."""
        return tuple(self.plan.layers)

    def group(self, layer: str) -> str:
        """Return the name of a layer's group: layers of one group have the same rows. Raises `CalibrationError`."""
        if layer not in self.plan.layers:
            raise CalibrationError(f"{self.folder}: no layer {layer!r}{did_you_mean(layer, self.plan.layers)}")
        return self.plan.layers[layer]

    def rows(self, layer: str) -> Rows | None:
        """Return the rows of a layer's input in the order in which they went by; None if the layer never ran.

        Raises `CalibrationError` for a layer that is not known, and for a file that is damaged.
        """
        group = self.group(layer)
        seen = self._seen[group]
        kept = [batch for batch, count in enumerate(seen) if min(count, self.plan.share(batch))]
        if not kept:
            return None
        values = torch.cat([self._read(group, batch) for batch in kept])
        return Rows(values, sum(seen), self.plan.images)

    def _read(self, group: str, batch: int) -> Tensor:
        path = self.folder / file_of(group, batch)
        check_owner(path, self.plan, group, batch)
        try:
            with safe_open(path, framework="pt") as file:
                values, exponent = file.get_tensor("values"), int(file.get_tensor("exponent"))
            if values.ndim != 2:
                raise ValueError(f"values of shape {tuple(values.shape)}")
            return unpacked(values, exponent)
        except (SafetensorError, OSError, ValueError, OverflowError, RuntimeError) as error:
            raise _damaged(path, error) from error

    @property
    def bytes(self) -> int:
        """What the files take, in bytes."""
        return sum(file.stat().st_size for file in self.folder.iterdir())


def packed(values: Tensor) -> tuple[Tensor, int]:
    """Return values as float16 of the same shape, the largest near 2^15, and the exponent of two of their factor.

    >>> packed(torch.tensor([3e-9, -1e-9]))[1]
    -43
    """
    top = float(values.abs().max()) if values.numel() else 0.0
    exponent = math.frexp(top)[1] - 15 if top else 0
    return (values.double() * 2.0**-exponent).half(), exponent


def unpacked(values: Tensor, exponent: int) -> Tensor:
    """Return the float32 values, of the same shape, of what `packed` returned."""
    return (values.double() * 2.0**exponent).float()


def write_rows(folder: Path, plan: RowPlan, group: str, batch: int, values: Tensor) -> None:
    """Write the rows (n, inputs) that batch number `batch` keeps of a group."""
    half, exponent = packed(values)
    tensors = {"values": half.contiguous(), "exponent": torch.tensor(exponent)}
    data = save(tensors, {_OWNER: _owner(plan, group, batch)})
    with replacing(folder / file_of(group, batch)) as beside:
        beside.write_bytes(data)


def write_index(folder: Path, plan: RowPlan, seen: Seen) -> None:
    """Write what the rows are of, and which batches are complete."""
    table = {"q2": "rows", "version": _VERSION} | asdict(plan) | {"seen": {key: list(n) for key, n in seen.items()}}
    write_json(folder / INDEX, table)


def read_index(folder: Path) -> tuple[RowPlan, dict[str, list[int]]]:
    """Return what the rows in a folder are of, and how many went by. Raises `CalibrationError`."""
    try:
        table = read_json(folder / INDEX)
        if table.pop("q2") != "rows":
            raise ValueError("it is something else")
        if table.pop("version") != _VERSION:
            raise CalibrationError(f"{folder}: has rows of another version of q2; remove it and collect them anew")
        seen = {group: [int(count) for count in counts] for group, counts in table.pop("seen").items()}
        plan = RowPlan(**table)
        numbers = (plan.images, plan.steps, plan.rows, plan.seed, plan.batch)
        texts = (plan.denoiser, plan.weights, plan.dtype, plan.prompts, plan.refiner, *plan.groups)
        if any(type(each) is not int for each in numbers) or not all(isinstance(each, str) for each in texts):
            raise ValueError("a value is of another type")
        if not 1 <= plan.images <= _MOST or plan.batch < 1:
            raise ValueError(f"images: expected 1 to {_MOST}, batch: 1 or more")
        if any(len(counts) > len(plan.batches) for counts in seen.values()):
            raise ValueError("it has counts of more batches than there are")
        if set(seen) != set(plan.groups):
            raise ValueError("its groups are not those of its layers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CalibrationError(f"{folder}: has no rows: {INDEX} cannot be read ({why(error)})") from error
    return plan, seen


def is_complete(folder: Path, plan: RowPlan, seen: Seen, batch: int) -> bool:
    """Return whether every file of a batch is there and whole."""
    for group, counts in seen.items():
        if batch >= len(counts):
            return False
        if min(counts[batch], plan.share(batch)):
            try:
                check_owner(folder / file_of(group, batch), plan, group, batch)
            except CalibrationError:
                return False
    return True


def check_owner(path: Path, plan: RowPlan, group: str, batch: int) -> None:
    """Raise `CalibrationError` for a file that is gone, damaged, or belongs to other rows."""
    try:
        with safe_open(path, framework="pt") as file:
            owner = (file.metadata() or {}).get(_OWNER)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if owner != _owner(plan, group, batch):
        raise CalibrationError(f"{path}: belongs to other rows")


def file_of(group: str, batch: int) -> str:
    """Return the name of the file of a group and a batch."""
    return f"{group}.{batch:03}.safetensors"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the operating system says while files are written into a `CalibrationError`."""
    try:
        yield
    except OSError as error:
        raise CalibrationError(
            f"{folder}: cannot be written: {why(error)}; what is complete stays, q2 calibrate goes on from there"
        ) from error


def _damaged(path: Path, error: Exception) -> CalibrationError:
    return CalibrationError(f"{path}: is gone, truncated or damaged ({error}); q2 calibrate makes it anew")


def _owner(plan: RowPlan, group: str, batch: int) -> str:
    return f"{plan.fingerprint} {group} {batch}"
