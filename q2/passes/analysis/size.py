"""How many bits and bytes the weight layers take, exactly, from their shapes and options alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.graph import Fact
from q2.passes.analysis.errors import ratio_db
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, options_in_place
from q2.quant.kinds import QUANTIZERS

if TYPE_CHECKING:
    from q2.graph import Choice, Graph
    from q2.quant.base import OutputErrors

__all__ = ["SIZES", "LayerSize", "Size"]


@dataclass(frozen=True)
class LayerSize:
    """A choice's option and size. `overhead` is what codebooks, scales and zero points take, in bits.

    `outputs` is the option's output error, where a bank that knows it is in use.
    """

    option: str
    weights: int
    code_bits: int
    overhead: int
    outputs: "OutputErrors | None" = None

    @property
    def bits(self) -> int:
        """Codes and overhead, in bits."""
        return self.code_bits + self.overhead

    @property
    def bytes(self) -> int:
        """Codes rounded up to a whole byte, then the overhead."""
        return -(-self.code_bits // 8) + self.overhead // 8


SIZES = Fact[dict[str, LayerSize]]("sizes", dict)


@dataclass(frozen=True)
class Size(AnalysisPass):
    """Exact bits and bytes of every weight layer, and the average bits of a weight, overheads included.

    Beside them is the output error of the options in place, where the bank in use knows it.

    Layers that read a skip connection count as two, each with parameters of its own.
    Source: Qua²SeDiMo (AAAI'25), model size with overheads; biases and norms are not counted.
    """

    name: ClassVar[str] = "size"
    provides: ClassVar[tuple[Fact[dict[str, LayerSize]], ...]] = (SIZES,)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `SIZES`."""
        sizes: dict[str, LayerSize] = {}
        for choice, option in options_in_place(graph):
            quantizer = ctx.plugins.of(QUANTIZERS).load(option.quantizer)()
            overhead = quantizer.overhead_bits(choice.shape, option.bits, ctx.prec)
            total = quantizer.size_bits(choice.shape, option.bits, ctx.prec)
            outputs = _outputs(choice) if not option.is_none else None
            sizes[choice.name] = LayerSize(str(option), choice.weights, total - overhead, overhead, outputs)
        graph.facts.set(SIZES, sizes)
        return _report(sizes, ctx.prec)


def _outputs(choice: "Choice") -> "OutputErrors | None":
    """Return the output error of what a choice was quantized to."""
    from q2.quant import parts_of

    part = next((part for part in parts_of(choice.layer.module) if part.channels == choice.channels), None)
    return part.fitted.outputs if part and part.fitted else None


def _report(sizes: Mapping[str, LayerSize], prec: int) -> Report:
    weights = sum(size.weights for size in sizes.values())
    full = weights * prec // 8
    held = sum(size.bytes for size in sizes.values())
    avg_bits = sum(size.bits for size in sizes.values()) / max(weights, 1)
    groups: dict[str, list[LayerSize]] = {}
    for size in sizes.values():
        groups.setdefault(size.option, []).append(size)
    known = any(size.outputs for size in sizes.values())
    rows = tuple(
        (option, len(g), _millions(g), sum(s.bits for s in g) / sum(s.weights for s in g), _mb(g), *_errors(g, known))
        for option, g in sorted(groups.items())
    )
    heads = ("output error", "outputs' SQNR dB") if known else ()
    table = TextTable(("option", "choices", "weights", "bits/weight", "size", *heads), rows)
    summary = f"{held / 1e6:.2f} MB, {avg_bits:.3f} bits a weight ({prec} bits: {full / 1e6:.2f} MB)"
    errors = {name: size.outputs.error for name, size in sizes.items() if size.outputs}
    summary += f"; output error {sum(errors.values()):.4g}" if known else ""
    data = {
        "avg_bits": avg_bits,
        "bytes": held,
        "full_bytes": full,
        "weights": weights,
        "layers": {
            name: {"option": s.option, "bits": s.bits, "bytes": s.bytes}
            | ({"output_error": errors[name]} if name in errors else {})
            for name, s in sizes.items()
        },
    }
    return Report(summary, (table,), data)


def _errors(group: list[LayerSize], known: bool) -> tuple[str | float, ...]:
    """Return the output error of a group and its ratio to the signal, where errors are `known` of some group."""
    outputs = [size.outputs for size in group if size.outputs]
    if not outputs:
        return ("–", "–") if known else ()
    error = sum(each.error for each in outputs)
    return error, ratio_db(sum(each.signal for each in outputs), error)


def _millions(group: list[LayerSize]) -> str:
    return f"{sum(size.weights for size in group) / 1e6:.3f} M"


def _mb(group: list[LayerSize]) -> str:
    return f"{sum(size.bytes for size in group) / 1e6:.3f} MB"
