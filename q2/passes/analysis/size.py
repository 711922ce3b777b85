"""How many bits and bytes the weight layers take, exactly, from their shapes and options alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.graph import Fact
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, options_in_place
from q2.quant.kinds import QUANTIZERS

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["SIZES", "LayerSize", "Size"]


@dataclass(frozen=True)
class LayerSize:
    """A choice's option and size. `overhead` is what codebooks, scales and zero points take, in bits."""

    option: str
    weights: int
    code_bits: int
    overhead: int

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
            sizes[choice.name] = LayerSize(str(option), choice.weights, total - overhead, overhead)
        graph.facts.set(SIZES, sizes)
        return _report(sizes, ctx.prec)


def _report(sizes: Mapping[str, LayerSize], prec: int) -> Report:
    weights = sum(size.weights for size in sizes.values())
    full = weights * prec // 8
    held = sum(size.bytes for size in sizes.values())
    avg_bits = sum(size.bits for size in sizes.values()) / max(weights, 1)
    groups: dict[str, list[LayerSize]] = {}
    for size in sizes.values():
        groups.setdefault(size.option, []).append(size)
    rows = tuple(
        (option, len(group), _millions(group), sum(s.bits for s in group) / sum(s.weights for s in group), _mb(group))
        for option, group in sorted(groups.items())
    )
    table = TextTable(("option", "choices", "weights", "bits/weight", "size"), rows)
    summary = f"{held / 1e6:.2f} MB, {avg_bits:.3f} bits a weight ({prec} bits: {full / 1e6:.2f} MB)"
    data = {
        "avg_bits": avg_bits,
        "bytes": held,
        "full_bytes": full,
        "weights": weights,
        "layers": {name: {"option": s.option, "bits": s.bits, "bytes": s.bytes} for name, s in sizes.items()},
    }
    return Report(summary, (table,), data)


def _millions(group: list[LayerSize]) -> str:
    return f"{sum(size.weights for size in group) / 1e6:.3f} M"


def _mb(group: list[LayerSize]) -> str:
    return f"{sum(size.bytes for size in group) / 1e6:.3f} MB"
