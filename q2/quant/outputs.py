"""Output errors of a plain bank's options: measured with rows of inputs, and kept in a file of the bank's folder.

The file is replaced as a whole, and now and then while it grows, so that a measurement that is stopped goes on from
there. Output errors by other rows take its place.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from q2.errors import BankError, Q2Error, why
from q2.files import alone, read_json, write_json
from q2.progress import Progress, silent
from q2.quant.base import OutputErrors, check_weight
from q2.quant.calibration.problem import Problem
from q2.quant.options import NONE, Option
from q2.quant.simulated import Part

if TYPE_CHECKING:
    from q2.quant.bank import Bank

__all__ = ["Outputs", "ProblemOf", "measure_outputs", "read_outputs"]

_FILE, _VERSION, _SECONDS = "outputs.json", 1, 10.0
ProblemOf = Callable[[str, tuple[int, int] | None, Tensor], Problem]
"""Returns what the outputs of a layer say of its weight, or of the part with a range of input channels."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """Output errors by choice and option, measured with the rows of the fingerprint `rows`."""

    rows: str
    errors: dict[str, dict[str, OutputErrors]] = field(default_factory=dict)

    def of(self, choice: str, option: str) -> OutputErrors | None:
        """Return an option's, where it was measured."""
        return self.errors.get(choice, {}).get(option)

    def holds(self, choice: str, options: Sequence[str]) -> bool:
        """Return whether all `options` of a choice were measured."""
        return all(self.of(choice, option) for option in options)


def read_outputs(folder: Path, bank: str) -> Outputs | None:
    """Return the output errors in the folder of a bank with this fingerprint; None where there are none.

    Raises `BankError` for a file that is damaged, or of another bank.
    """
    path = folder / _FILE
    try:
        table = read_json(path)
        if (table["q2"], table["version"], table["bank"]) != ("outputs", _VERSION, bank):
            raise ValueError("it belongs to another bank, or another version of q2")
        found = Outputs(str(table["rows"]))
        for choice, (signal, errors) in table["choices"].items():
            found.errors[choice] = {option: _of_plain(error, signal) for option, error in errors.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BankError(f"{path}: cannot be read ({why(error)}); remove it, and q2 bank measures it anew") from error
    return found


def measure_outputs(
    bank: "Bank", read: Callable[[str], Tensor], problems: ProblemOf, rows: str, progress: Progress = silent
) -> int:
    """Measure the output errors of all options of a plain bank, and return the number of layers that lacked some.

    `read` returns a layer's weight (O, I, ...), `problems` the `Problem` of its calibration rows, whose fingerprint is
    `rows`. Errors measured with the same rows are kept; open the bank again to see new ones. Raises `BankError` for a
    layer without rows and for a full disk.
    """
    folder, plan = bank.folder, bank.plan
    try:
        with alone(folder):
            there = read_outputs(folder, plan.fingerprint)
            found = there if there and there.rows == rows else Outputs(rows)
            layers = plan.layers.items()
            todo = [
                name for name, layer in layers if not all(found.holds(each, plan.options) for each in layer.choices)
            ]
            for left in folder.glob(".outputs-*.json"):  # by a process that was killed
                left.unlink()
            written = time.monotonic()
            try:
                for layer in progress(todo, "output errors", len(todo)):
                    _measure(bank, layer, read, problems, found)
                    if time.monotonic() > written + _SECONDS:
                        _write(folder, plan.fingerprint, found)
                        written = time.monotonic()
            finally:
                if todo:
                    _write(folder, plan.fingerprint, found)
    except OSError as error:
        raise BankError(f"{folder}: cannot be written: {why(error)}; what is complete stays") from error
    return len(todo)


def _measure(bank: "Bank", layer: str, read: Callable[[str], Tensor], problems: ProblemOf, found: Outputs) -> None:
    try:
        weight = check_weight(read(layer))
        for choice, channels in bank.plan.layers[layer].choices.items():
            mine = Part(Option(NONE, 0), channels=channels).of(weight).contiguous()
            problem, errors = problems(layer, channels, mine), dict[str, OutputErrors]()
            for text in bank.plan.options:
                fitted = bank.fitted(choice, Option.parse(text))
                assert fitted is not None
                values = fitted.restore(mine).flatten(1).float()
                errors[text] = _of_plain(float(problem.errors(values).sum()), problem.signal)
            found.errors[choice] = errors
    except Q2Error as error:
        raise BankError(f"layer {layer!r}: {error}") from error


def _write(folder: Path, bank: str, found: Outputs) -> None:
    choices = {
        choice: [next(iter(errors.values())).signal, {option: each.error for option, each in errors.items()}]
        for choice, errors in found.errors.items()
    }
    write_json(
        folder / _FILE, {"q2": "outputs", "version": _VERSION, "bank": bank, "rows": found.rows, "choices": choices}
    )


def _of_plain(error: float | None, signal: float | None) -> OutputErrors:
    """Return the errors of an option that was fitted to the weight alone; a file says null for what is not finite."""
    known = math.inf if error is None else float(error)
    return OutputErrors(known, known, math.inf if signal is None else float(signal))
