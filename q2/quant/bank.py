"""The bank: for every weight layer and every option the fitted parameters and the errors, in files.

A bank grows. The index lists every option that was ever asked for, in that order, and is written first; each layer's
file says which of them it holds, and is replaced as a whole by one that holds more. The bank has the options that every
layer holds, so that a build that is stopped half-way leaves at least what there was before.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from q2.errors import BankError, Q2Error, there_are, why
from q2.files import alone, read_json, replacing, write_json
from q2.progress import Progress, silent
from q2.quant.base import Fitted, OutputErrors, Quantizer, check_weight
from q2.quant.calibration.fit import fit_outputs
from q2.quant.kernels.errors import Errors
from q2.quant.options import NONE, Option
from q2.quant.outputs import Outputs, ProblemOf, read_outputs
from q2.quant.packed.packing import CODES, packed_bytes
from q2.quant.simulated import Part

__all__ = ["Bank", "BankPlan", "LayerPlan", "build", "options_in"]

_INDEX, _VERSION, _OWNER = "index.json", 2, "bank"
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

    `weights` is the fingerprint of the denoiser's weights, `calibration` that of the rows of inputs that options are
    fitted to, empty where they are fitted to the weights alone. All but the options says which bank it is.
    """

    denoiser: str
    weights: str
    dtype: str
    prec: int
    options: tuple[str, ...]
    layers: Mapping[str, LayerPlan]
    calibration: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over everything in the plan but its options."""
        identity = {key: value for key, value in self.table().items() if key != "options"}
        return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def differs(self, other: "BankPlan") -> str:
        """Say, with both values, in what another plan differs beside its options; empty where it does not.

        >>> plan = BankPlan("dit", "ab12", "float16", 16, ("uaq-4",), {})
        >>> plan.differs(BankPlan("dit", "cd34", "float16", 16, ("uaq-4",), {}))
        'weights cd34, not ab12'
        """
        theirs = asdict(other)
        for key, mine in asdict(self).items():
            if key != "options" and mine != theirs[key]:
                return "other layers" if key == "layers" else f"{key} {theirs[key] or 'none'}, not {mine or 'none'}"
        return ""

    def bytes(self, quantizers: "Quantizers") -> int:
        """Return what the tensors of the whole bank take, in bytes; the files' headers come on top.

        >>> from q2.quant import builtin_quantizer
        >>> layers = {"proj": LayerPlan((8, 4), {"proj": None})}
        >>> BankPlan("dit", "ab12", "float16", 16, ("uaq-4",), layers).bytes(builtin_quantizer)
        64
        """
        options = [Option.parse(text) for text in self.options]
        numbers = len(Errors._fields) + (len(OutputErrors._fields) if self.calibration else 0)
        total = 0
        for layer in self.layers.values():
            for channels in layer.choices.values():
                shape = Part(Option(NONE, 0), channels=channels).of_shape(layer.shape)
                for option in options:
                    codes = packed_bytes(math.prod(shape), option.bits) if self.calibration else 0
                    over = quantizers(option.quantizer).overhead_bits(shape, option.bits, self.prec)
                    total += codes + over // 8 + numbers * torch.float64.itemsize
        return total

    def table(self) -> dict[str, object]:
        """Return what the index says; of a plain bank no calibration, as before there were others."""
        return {key: value for key, value in asdict(self).items() if key != "calibration" or value}


class Bank:
    """A bank on disk. A layer's file is read when the layer is first asked for."""

    def __init__(self, folder: Path, plan: BankPlan, quantizers: Quantizers) -> None:
        """See `open`."""
        self.folder, self.plan, self._quantizers = folder, plan, quantizers
        self._read: dict[str, dict[tuple[str, str], Fitted]] = {}

    @classmethod
    def open(cls, folder: str | Path, quantizers: Quantizers) -> "Bank":
        """Open a bank; `quantizers` finds a quantizer by name. The options of its plan are those that all layers have.

        Raises `BankError`, one line, for a folder that is no bank, of another version, damaged, or not complete.
        """
        path = Path(folder)
        plan = _plan(path)
        held = [_held(path, plan, layer) for layer in plan.layers]
        missing = sum(not options for options in held)
        if missing:
            raise BankError(f"{path}: {missing} of {len(held)} layers are not built; q2 bank resumes it")
        return cls(path, replace(plan, options=_common(plan, held)), quantizers)

    @staticmethod
    def plan_of(folder: Path) -> BankPlan | None:
        """Return what a bank's index says that it holds, complete or not; None where there is nothing.

        Raises `BankError` for a folder with something else in it.
        """
        there = folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())
        return _plan(folder) if there else None

    def fitted(self, choice: str, option: Option) -> Fitted | None:
        """Return how a choice was fitted at `option`; None if the bank has not got this option.

        Raises `BankError` for a choice that the bank does not know, and for a file that is damaged.
        """
        layer = self._layer_of.get(choice)
        if layer is None:
            raise BankError(f"{self.folder}: no layer {choice!r}{there_are(choice, self._layer_of)}")
        if layer not in self._read:
            self._read[layer] = self._load(layer)
        return self._read[layer].get((choice, str(option)))

    def errors(self, choice: str) -> dict[str, Errors]:
        """Return the errors of every option of a choice."""
        found = ((option, self.fitted(choice, Option.parse(option))) for option in self.plan.options)
        return {option: fitted.errors for option, fitted in found if fitted is not None}

    @property
    def rows(self) -> str:
        """The fingerprint of the rows by which the output error of every option is known; empty where it is not.

        A calibrated bank was fitted to them; of a plain one they were measured later (`q2.quant.outputs`).
        """
        found, choices = self._outputs, self._layer_of
        if self.plan.calibration or not found:
            return self.plan.calibration
        return found.rows if all(found.holds(choice, self.plan.options) for choice in choices) else ""

    @property
    def bytes(self) -> int:
        """What the files take, in bytes."""
        return sum(file.stat().st_size for file in self.folder.iterdir())

    @cached_property
    def _layer_of(self) -> dict[str, str]:
        return {choice: layer for layer, plan in self.plan.layers.items() for choice in plan.choices}

    @cached_property
    def _outputs(self) -> Outputs | None:
        return None if self.plan.calibration else read_outputs(self.folder, self.plan.fingerprint)

    def _load(self, layer: str) -> dict[tuple[str, str], Fitted]:
        plan = self.plan.layers[layer]
        options = _held(self.folder, self.plan, layer)
        if not options:
            raise BankError(f"{self.folder / _file(layer)}: is gone; q2 bank makes it anew")
        try:
            tensors = _tensors(self.folder / _file(layer))
            return {
                (choice, option): self._with_outputs(
                    choice, self._fitted(tensors, i, j, Part(Option.parse(option), channels=channels), plan.shape)
                )
                for i, (choice, channels) in enumerate(plan.choices.items())
                for j, option in enumerate(options)
            }
        except (SafetensorError, OSError, LookupError, ValueError, TypeError, RuntimeError) as error:
            raise _damaged(self.folder / _file(layer), error) from error

    def _with_outputs(self, choice: str, fitted: Fitted) -> Fitted:
        found = self._outputs.of(choice, str(fitted.option)) if self._outputs else None
        return replace(fitted, outputs=found) if found else fitted

    def _fitted(self, tensors: Mapping[str, Tensor], i: int, j: int, part: Part, shape: tuple[int, ...]) -> Fitted:
        head = f"{i}.{part.option}."
        parameters = {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}
        errors = Errors(*tensors["errors"][i, j].tolist())
        outputs = OutputErrors(*tensors["outputs"][i, j].tolist()) if "outputs" in tensors else None
        dtype, quantizer = getattr(torch, self.plan.dtype), self._quantizers(part.option.quantizer)
        codes, shape = parameters.pop(CODES, None), part.of_shape(shape)
        known = (part.option, quantizer, parameters, shape, dtype, self.plan.prec, errors)
        return Fitted(*known, packed_codes=codes, outputs=outputs)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What a layer's file has: `tensors` for `options`."""

    options: tuple[str, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def options_in(folder: Path) -> tuple[str, ...]:
    """Return the options that every layer of the bank in `folder` has; none if a layer has no file that can be read.

    Where there is no folder, or nothing in it, there is no option. Raises `BankError` for one with something else.
    """
    plan = Bank.plan_of(folder)
    return _common(plan, [_readable(folder, plan, layer) for layer in plan.layers]) if plan else ()


def build(
    folder: Path,
    plan: BankPlan,
    read: Callable[[str], Tensor],
    quantizers: Quantizers,
    progress: Progress = silent,
    *,
    problems: ProblemOf | None = None,
) -> int:
    """Fit every option of every layer of `plan` into `folder`, and return in how many layers something was fitted.

    `read` returns a layer's weight (O, I, ...); with `problems`, options are fitted to the outputs. Existing fits are
    kept: a stopped build resumes, and a bank with other options gets those of `plan` after its own. Two builds in one
    folder run one after the other. Raises `BankError` if the folder has a bank for something else, a weight has NaN or
    infinity, or the disk is full.
    """
    try:
        with alone(folder):
            return _build(folder, plan, _Fitting(read, quantizers, problems), progress)
    except OSError as error:
        raise BankError(
            f"{folder}: cannot be written: {why(error)}; what is complete stays, q2 bank resumes it"
        ) from error


@dataclass(frozen=True, eq=False)
class _Fitting:
    """How layers are fitted."""

    read: Callable[[str], Tensor]
    quantizers: Quantizers
    problems: ProblemOf | None

    def fits(self, layer: str, part: Part, weight: Tensor, options: Sequence[Option], prec: int) -> Iterator[Fitted]:
        """Yield the fits of all options of a part of a layer's weight."""
        mine = part.of(weight).contiguous()
        problem = self.problems(layer, part.channels, mine) if self.problems and options else None
        for name in dict.fromkeys(option.quantizer for option in options):
            widths = [option.bits for option in options if option.quantizer == name]
            quantizer = self.quantizers(name)
            if problem is None:
                yield from quantizer.fit_each(mine, widths, prec)
            else:
                yield from fit_outputs(mine, quantizer, widths, problem, prec)


def _build(folder: Path, asked: BankPlan, fitting: _Fitting, progress: Progress) -> int:
    there = _plan(folder) if (folder / _INDEX).exists() else replace(asked, options=())
    if difference := there.differs(asked):
        raise BankError(f"{folder}: is a bank for other settings ({difference}); choose another folder, or remove it")
    plan = replace(asked, options=tuple(dict.fromkeys((*there.options, *asked.options))))
    held = {layer: _readable(folder, plan, layer) for layer in plan.layers}
    wanted = {*asked.options, *_common(plan, [options for options in held.values() if options])}
    if plan.options != there.options:
        write_json(folder / _INDEX, {"q2": "bank", "version": _VERSION} | plan.table())
    for left in (*folder.glob(".*.safetensors"), *folder.glob(".index-*.json")):  # by a build that was killed
        left.unlink()
    todo = [layer for layer, options in held.items() if not wanted.issubset(options)]
    for layer in progress(todo, "bank", len(todo)):
        old = _Layer(held[layer], _tensors(folder / _file(layer))) if held[layer] else _Layer()
        options = tuple(option for option in plan.options if option in wanted or option in old.options)
        data = _grown(layer, replace(plan, options=options), old, fitting)
        with replacing(folder / _file(layer)) as beside:
            beside.write_bytes(data)
    return len(todo)


def _grown(layer: str, plan: BankPlan, old: _Layer, fitting: _Fitting) -> bytes:
    """Return the file of a layer with the options of `plan`: what `old` has of them stays, the others are fitted.

    Its errors are float64: (choices, options, 4) of the weights, and (choices, options, 3) of the outputs.
    """
    options = [Option.parse(text) for text in plan.options]
    fresh = [option for option in options if str(option) not in old.options]
    tables = {"errors": Errors._fields} | ({"outputs": OutputErrors._fields} if plan.calibration else {})
    tensors = {name: tensor for name, tensor in old.tensors.items() if name not in tables}
    choices = plan.layers[layer].choices
    numbers = {name: torch.zeros(len(choices), len(options), len(row)).double() for name, row in tables.items()}
    for name, table in numbers.items():
        for place, option in enumerate(old.options):
            table[:, plan.options.index(option)] = old.tensors[name][:, place]
    try:
        weight = check_weight(fitting.read(layer))
        for i, channels in enumerate(choices.values()):
            part = Part(options[0], channels=channels)
            for fitted in fitting.fits(layer, part, weight, fresh, plan.prec):
                for name, table in numbers.items():
                    row = getattr(fitted, name)
                    table[i, options.index(fitted.option)] = torch.tensor(row, dtype=torch.float64)
                codes = {} if fitted.packed_codes is None else {CODES: fitted.packed_codes}
                for key, tensor in {**fitted.parameters, **codes}.items():
                    tensors[f"{i}.{fitted.option}.{key}"] = tensor.cpu().contiguous()
    except Q2Error as error:
        raise BankError(f"layer {layer!r}: {error}") from error
    owner = f"{_owner(plan, layer)}: {' '.join(plan.options)}"  # one entry: the order of several would differ
    return save(tensors | numbers, {_OWNER: owner})


def _held(folder: Path, plan: BankPlan, layer: str) -> tuple[str, ...]:
    """Return the options in a layer's file; none if there is no file. Raises `BankError` for one that is no good."""
    path = folder / _file(layer)
    try:
        with safe_open(path, framework="pt") as file:
            owner, _, options = (file.metadata() or {}).get(_OWNER, "").rpartition(": ")
    except FileNotFoundError:
        return ()
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if owner != _owner(plan, layer):
        raise BankError(f"{path}: belongs to another bank")
    return tuple(options.split())


def _readable(folder: Path, plan: BankPlan, layer: str) -> tuple[str, ...]:
    """Return the options in a layer's file; none if it is no good, so that it is made anew."""
    try:
        return _held(folder, plan, layer)
    except BankError:
        return ()


def _common(plan: BankPlan, held: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the options of `plan` that all layers hold."""
    return tuple(option for option in plan.options if held and all(option in options for options in held))


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def _damaged(path: Path, error: Exception) -> BankError:
    return BankError(f"{path}: is truncated or damaged ({error}); remove it and q2 bank makes it anew")


def _plan(folder: Path) -> BankPlan:
    path = folder / _INDEX
    try:
        table = read_json(path)
        if table.pop("q2") != "bank":
            raise ValueError("it is something else")
        if table.pop("version") != _VERSION:
            raise BankError(f"{folder}: is a bank of another version of q2; build it anew")
        layers = {name: _layer_plan(layer) for name, layer in table.pop("layers").items()}
        plan = BankPlan(**table | {"layers": layers, "options": tuple(table["options"])})
        texts = (plan.denoiser, plan.weights, plan.dtype, plan.calibration, *plan.options)
        if {*map(type, texts), type(plan.prec)} != {str, int}:
            raise ValueError("a value is of another type")
        return plan
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise BankError(f"{folder}: is no bank: {_INDEX} cannot be read ({why(error)})") from error


def _layer_plan(table: Mapping[str, object]) -> LayerPlan:
    shape, choices = table["shape"], table["choices"]
    if not isinstance(shape, list) or not all(type(side) is int for side in shape) or not isinstance(choices, dict):
        raise ValueError("the shape or the choices of a layer are none")
    ranges = {name: None if part is None else (int(part[0]), int(part[1])) for name, part in choices.items()}
    return LayerPlan(tuple(shape), ranges)


def _owner(plan: BankPlan, layer: str) -> str:
    return f"{plan.fingerprint} {layer}"


def _file(layer: str) -> str:
    return f"{layer}.safetensors"
