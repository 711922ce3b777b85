"""What every option of a bank does to each layer: errors of its weight, and of its outputs where these are known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, select
from q2.quant.options import Option

if TYPE_CHECKING:
    from q2.graph import Graph
    from q2.quant.base import Fitted

__all__ = ["OptionErrors", "ratio_db"]

_HEADS = ("weights' error", "weights' SQNR dB")
_Row = tuple[str | int | float, ...]
_OUTPUT_HEADS = ("output error", "outputs' SQNR dB")


@dataclass(frozen=True)
class OptionErrors(AnalysisPass):
    """Errors of every option of the bank, by layer, for the layers that match `layers`.

    Of the weight the sum over output channels of the mean |x - x̂|^2.4 (Qua²SeDiMo), of the outputs the sum of squares
    for one image's inputs, each also as a ratio to the signal; a bank knows the latter if it is calibrated, or if rows
    of inputs were there when it was built.
    """

    name: ClassVar[str] = "errors"
    layers: str = "*"
    """A shell-style pattern: which weight layers are in the table by layer."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` if `layers` matches nothing."""
        select(graph.weight_layers, self.layers)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Report what the bank knows; nothing is fitted."""
        bank = ctx.bank
        if bank is None:
            return Report("there is no bank: q2 bank makes it")
        layers = {*select(graph.weight_layers, self.layers)}
        choices = [name for name, choice in graph.choices.items() if choice.layer.name in layers]
        fits: dict[str, dict[str, Fitted]] = {name: {} for name in choices}
        for name in choices:
            for option in bank.plan.options:
                fitted = bank.fitted(name, Option.parse(option))
                assert fitted is not None
                fits[name][option] = fitted
        known = bool(bank.rows)
        heads = (*_HEADS, *(_OUTPUT_HEADS if known else ()))
        by_option, by_layer = list[_Row](), list[_Row]()
        for option in bank.plan.options:
            by_option.append((option, *_cells([row[option] for row in fits.values()], known)))
        for name, row in fits.items():
            by_layer += [(name, option, *_cells([fitted], known)) for option, fitted in row.items()]
        tables = (
            TextTable(("option", *heads), tuple(by_option)),
            TextTable(("layer", "option", *heads), tuple(by_layer)),
        )
        rows = f"outputs' by the rows {bank.rows}" if known else "outputs' are not known: q2 calibrate, then q2 bank"
        summary = f"{bank.folder}: {len(choices)} choices, {len(bank.plan.options)} options; {rows}"
        data = {name: {option: _data(fitted) for option, fitted in row.items()} for name, row in fits.items()}
        return Report(summary, tables, {"rows": bank.rows, "layers": data})


def ratio_db(signal: float, error: float) -> float:
    """Return 10 log10(signal / error), infinite where there is no error.

    >>> ratio_db(100.0, 1.0), ratio_db(100.0, 0.0)
    (20.0, inf)
    """
    return 10 * math.log10(signal / error) if error and signal else math.inf


def _cells(fits: "Sequence[Fitted]", known: bool) -> tuple[float, ...]:
    """Return the errors of a few fits together."""
    squared = [fitted.mse * math.prod(fitted.shape) for fitted in fits]
    energy = sum(error * 10 ** (fitted.sqnr_db / 10) for error, fitted in zip(squared, fits, strict=True) if error)
    cells = (sum(fitted.quantized_error for fitted in fits), ratio_db(energy, sum(squared)))
    if not known:
        return cells
    outputs = [fitted.outputs for fitted in fits if fitted.outputs]
    error, signal = sum(each.error for each in outputs), sum(each.signal for each in outputs)
    return (*cells, error, ratio_db(signal, error))


def _data(fitted: "Fitted") -> Mapping[str, float]:
    data = {"quantized_error": fitted.quantized_error, "sqnr_db": fitted.sqnr_db}
    if fitted.outputs:
        data |= {"output_error": fitted.outputs.error, "output_sqnr_db": fitted.outputs.sqnr_db}
    return data
