"""The units of a denoiser: the pieces that a search chooses together, as a table."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from q2.graph import Fact
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable

if TYPE_CHECKING:
    from q2.graph import Graph, Unit
    from q2.graph.scopes import Scopes

__all__ = ["UNITS", "Units"]

UNITS: "Fact[list[Unit]]" = Fact("units", list)


@dataclass(frozen=True)
class Units(AnalysisPass):
    r"""The weight layers partitioned into units by module hierarchy and flow: attentions, feed-forwards, ResBlocks, ….

    `rules` override the partition: a regular expression, and the name of the unit that matching layers form
    (``"blocks\.(\d+)\.ff" = "mlp.\1"``). With `ties`, units whose layers hold the same weights are one.
    """

    name: ClassVar[str] = "units"
    provides: ClassVar[tuple["Fact[list[Unit]]", ...]] = (UNITS,)
    rules: Mapping[str, str] = field(default_factory=dict)
    """Overrides: a regular expression, and the name of the unit that its layers get."""
    ties: bool = True
    """Units whose layers hold the same weights are one."""

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Set the fact `UNITS`."""
        from q2.graph.scopes import Scopes

        flow, layers = graph.flow(), graph.weight_layers
        units = graph.units(self.rules, ties=self.ties)
        graph.facts.set(UNITS, units)
        places = Scopes(graph.model)
        rows: dict[tuple[str, int, int], list[float]] = {}
        details = {}
        for unit in units:
            held = [layers[name] for name in dict.fromkeys(flow.nodes[node]["layer"] for node in unit.layers)]
            weights, macs = sum(layer.weights for layer in held), sum(layer.macs for layer in held)
            row = rows.setdefault((_kind(places, unit.name), len(unit.layers), unit.hops), [0, 0, 0])
            row[:] = row[0] + 1, row[1] + weights / 1e6, row[2] + macs / 1e9
            details[unit.name] = {
                "layers": list(unit.layers),
                "nodes": list(unit.nodes),
                "last": unit.last,
                "hops": unit.hops,
                "weights": weights,
            }
        table = TextTable(
            ("unit", "units", "layers each", "hops", "M weights", "GMACs"),
            tuple((kind, int(n), each, hops, weights, macs) for (kind, each, hops), (n, weights, macs) in rows.items()),
        )
        choices = sum(data["kind"] == "weight" for _, data in flow.nodes(data=True))
        combines = len(flow) - choices
        summary = f"{len(units)} units of {choices} choices; flow graph with {combines} combines, {flow.size()} edges"
        return Report(summary, (table,), {"units": details, "choices": choices, "combines": combines})


def _kind(places: "Scopes", name: str) -> str:
    """Return the kind of a unit by its name: its role, or the module list that holds it."""
    role = places.of(name).role
    return role or next((part for part in reversed(name.split(".")) if not part.isdigit()), name)
