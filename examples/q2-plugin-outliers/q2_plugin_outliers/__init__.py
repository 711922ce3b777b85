"""A q2 plugin that adds the analysis pass `outliers`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from q2.graph import Graph
from q2.passes import AnalysisPass, PassContext, Report, TextTable, at_layer, select, weight_of
from q2.plugins import hookimpl

q2_api = "1"


@dataclass(frozen=True)
class Outliers(AnalysisPass):
    """Share of every layer's weights further than `sigma` standard deviations from the mean."""

    name: ClassVar[str] = "outliers"
    sigma: float = 4.0
    layers: str = "*"

    def check(self, graph: Graph, ctx: PassContext) -> None:
        """Raise `ConfigError` if `layers` matches nothing."""
        select(graph.weight_layers, self.layers)

    def run(self, graph: Graph, ctx: PassContext) -> Report:
        """Report the share of outliers by layer, the largest first."""
        shares: dict[str, float] = {}
        for name in select(graph.weight_layers, self.layers):
            with at_layer(name):
                weight = weight_of(graph.weight_layers[name].module).double()
                far = (weight - weight.mean()).abs() > self.sigma * weight.std()
                shares[name] = float(far.double().mean())
        ordered = sorted(shares.items(), key=lambda item: -item[1])
        table = TextTable(("layer", "outliers ‰"), tuple((name, 1000 * share) for name, share in ordered))
        worst = ordered[0]
        return Report(f"most in {worst[0]}: {worst[1]:.3%} beyond {self.sigma} σ", (table,), {"share": shares})


@hookimpl
def q2_passes() -> Mapping[str, type[Outliers]]:
    """Hand the pass over."""
    return {"outliers": Outliers}
