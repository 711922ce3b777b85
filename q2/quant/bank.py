"""The bank: for every weight layer and every option the fitted parameters and the errors, in files."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from q2.errors import BankError, Q2Error, did_you_mean
from q2.files import replacing, write_json
from q2.progress import Progress, silent
from q2.quant.base import Fitted, Quantizer, check_weight
from q2.quant.layers import Part
from q2.quant.measure import Errors
from q2.quant.options import Option

__all__ = ["Bank", "BankPlan", "LayerPlan", "build"]

_INDEX, _VERSION, _OWNER = "index.json", 1, "bank"
Quantizers = Callable[[str], Quantizer]


@dataclass(frozen=True)
class LayerPlan:
    """A weight layer of a bank: its weight's shape, and the ranges of input channels of its choices by name.

    A layer that is not split has one choice, with the range None.
    """

    shape: tuple[int, ...]
    choices: Mapping[str, tuple[int, int] | None]


@dataclass(frozen=True)
class BankPlan:
    """What a bank holds: which layers of which weights, in which dtype, at which options; parameters have `prec` bits.

    `weights` is the fingerprint of the denoiser's weights.
    """

    denoiser: str
    weights: str
    dtype: str
    prec: int
    options: tuple[str, ...]
    layers: Mapping[str, LayerPlan]

    @property
    def fingerprint(self) -> str:
        """16 hex digits over everything in the plan."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def differs(self, other: "BankPlan") -> str:
        """Say, with both values, in what another plan differs; empty where it does not.

        >>> plan = BankPlan("dit", "ab12", "float16", 16, ("uaq-4",), {})
        >>> plan.differs(BankPlan("dit", "cd34", "float16", 16, ("uaq-4",), {}))
        'weights cd34, not ab12'
        """
        for key, mine in asdict(self).items():
            theirs = asdict(other)[key]
            if mine != theirs:
                return "other layers" if key == "layers" else f"{key} {_text(theirs)}, not {_text(mine)}"
        return ""


class Bank:
    """A bank on disk. A layer's file is read when the layer is first asked for."""

    def __init__(self, folder: Path, plan: BankPlan, quantizers: Quantizers) -> None:
        """See `open`."""
        self.folder, self.plan, self._quantizers = folder, plan, quantizers
        self._read: dict[str, dict[tuple[str, str], Fitted]] = {}

    @classmethod
    def open(cls, folder: str | Path, quantizers: Quantizers) -> "Bank":
        """Open a bank; `quantizers` finds a quantizer by name.

        Raises `BankError`, one line, for a folder that is no bank, of another version, or not complete.
        """
        path = Path(folder)
        bank = cls(path, _plan(path), quantizers)
        missing = sum(not (path / _file(layer)).is_file() for layer in bank.plan.layers)
        if missing:
            raise BankError(f"{path}: {missing} of {len(bank.plan.layers)} layers are not built; q2 bank resumes it")
        return bank

    def fitted(self, choice: str, option: Option) -> Fitted | None:
        """Return how a choice was fitted at `option`; None if the bank has not got this option.

        Raises `BankError` for a choice that the bank does not know, and for a file that is damaged.
        """
        layer = self._layer_of.get(choice)
        if layer is None:
            raise BankError(f"{self.folder}: no layer {choice!r}{did_you_mean(choice, self._layer_of)}")
        if layer not in self._read:
            self._read[layer] = self._load(layer)
        return self._read[layer].get((choice, str(option)))

    def errors(self, choice: str) -> dict[str, Errors]:
        """Return the errors of every option of a choice."""
        found = ((option, self.fitted(choice, Option.parse(option))) for option in self.plan.options)
        return {option: fitted.errors for option, fitted in found if fitted is not None}

    @property
    def bytes(self) -> int:
        """What the files take, in bytes."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    @cached_property
    def _layer_of(self) -> dict[str, str]:
        return {choice: layer for layer, plan in self.plan.layers.items() for choice in plan.choices}

    def _load(self, layer: str) -> dict[tuple[str, str], Fitted]:
        path, plan = self.folder / _file(layer), self.plan.layers[layer]
        try:
            with safe_open(path, framework="pt") as file:
                if file.metadata().get(_OWNER) != _owner(self.plan, layer):
                    raise BankError(f"{path}: belongs to another bank")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            return {
                (choice, option): self._fitted(tensors, i, j, Part(Option.parse(option), channels=channels), plan.shape)
                for i, (choice, channels) in enumerate(plan.choices.items())
                for j, option in enumerate(self.plan.options)
            }
        except (SafetensorError, OSError, KeyError) as error:
            raise BankError(
                f"{path}: is truncated or damaged ({error}); remove it and q2 bank makes it anew"
            ) from error

    def _fitted(self, tensors: Mapping[str, Tensor], i: int, j: int, part: Part, shape: tuple[int, ...]) -> Fitted:
        head = f"{i}.{part.option}."
        parameters = {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}
        errors = Errors(*tensors["errors"][i, j].tolist())
        dtype, quantizer = getattr(torch, self.plan.dtype), self._quantizers(part.option.quantizer)
        return Fitted(part.option, quantizer, parameters, part.of_shape(shape), dtype, self.plan.prec, errors)


def build(
    folder: Path, plan: BankPlan, read: Callable[[str], Tensor], quantizers: Quantizers, progress: Progress = silent
) -> int:
    """Fit every option of every layer of `plan` into `folder`, and return how many layers were fitted anew.

    `read` returns a layer's weight. Layers that are there already stay, so that a build that was stopped goes on where
    it was. Raises `BankError` if another bank is there, a weight has NaN or infinity in it, or the disk is full.
    """
    if (folder / _INDEX).exists() and (difference := _plan(folder).differs(plan)):
        raise BankError(f"{folder}: is a bank for other settings ({difference}); choose another --out, or remove it")
    wanted = [layer for layer in plan.layers if not _complete(layer, plan, folder)]
    try:
        if not (folder / _INDEX).exists():
            write_json(folder / _INDEX, {"q2": "bank", "version": _VERSION} | asdict(plan))
        for left in folder.glob(".*"):  # by a build that was killed
            left.unlink()
        for layer in progress(wanted, "bank", len(wanted)):
            data = _layer(layer, plan, read(layer), quantizers)
            with replacing(folder / _file(layer)) as beside:
                beside.write_bytes(data)
    except OSError as error:
        reason = error.strerror or error
        raise BankError(f"{folder}: cannot be written: {reason}; what is complete stays, q2 bank resumes it") from error
    return len(wanted)


def _layer(layer: str, plan: BankPlan, weight: Tensor, quantizers: Quantizers) -> bytes:
    """Return the file of a layer. Its errors are float64, (choices, options, 4)."""
    options = [Option.parse(text) for text in plan.options]
    tensors, errors = {}, torch.zeros(len(plan.layers[layer].choices), len(options), len(Errors._fields)).double()
    for i, channels in enumerate(plan.layers[layer].choices.values()):
        try:
            part = Part(options[0], channels=channels).of(check_weight(weight)).contiguous()
            for name in dict.fromkeys(option.quantizer for option in options):
                widths = [option.bits for option in options if option.quantizer == name]
                for fitted in quantizers(name).fit_each(part, widths, plan.prec):
                    errors[i, options.index(fitted.option)] = torch.tensor(fitted.errors, dtype=torch.float64)
                    for key, tensor in fitted.parameters.items():
                        tensors[f"{i}.{fitted.option}.{key}"] = tensor.cpu().contiguous()
        except Q2Error as error:
            raise BankError(f"layer {layer!r}: {error}") from error
    return save(tensors | {"errors": errors}, {_OWNER: _owner(plan, layer)})


def _complete(layer: str, plan: BankPlan, folder: Path) -> bool:
    try:
        with safe_open(folder / _file(layer), framework="pt") as file:
            return bool(file.metadata().get(_OWNER) == _owner(plan, layer))
    except (SafetensorError, OSError):
        return False


def _plan(folder: Path) -> BankPlan:
    path = folder / _INDEX
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if table.pop("q2") != "bank":
            raise ValueError("it is something else")
        if table.pop("version") != _VERSION:
            raise BankError(f"{folder}: is a bank of another version of q2; build it anew")
        layers = {name: _layer_plan(layer) for name, layer in table.pop("layers").items()}
        return BankPlan(**table | {"layers": layers, "options": tuple(table["options"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BankError(f"{folder}: is no bank: {_INDEX} cannot be read ({error})") from error


def _layer_plan(table: Mapping[str, object]) -> LayerPlan:
    shape, choices = table["shape"], table["choices"]
    assert isinstance(shape, Sequence)
    assert isinstance(choices, Mapping)
    return LayerPlan(tuple(shape), {name: tuple(part) if part else None for name, part in choices.items()})


def _owner(plan: BankPlan, layer: str) -> str:
    """Return the one entry of a file's metadata; the order of several would differ from run to run."""
    return f"{plan.fingerprint} {layer}"


def _file(layer: str) -> str:
    return f"{layer}.safetensors"


def _text(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple | list) else str(value)
