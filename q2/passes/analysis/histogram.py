"""Histograms of weights, before and after they are quantized."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, at_layer, select, weight_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from q2.graph import Graph

__all__ = ["WeightsHistogram"]

_MOST = 8


@dataclass(frozen=True)
class WeightsHistogram(AnalysisPass):
    """Draw the weights of the layers that match `layers`, at full precision and as they are, with `bins` bins.

    The first eight are drawn, into ``weights-histogram.png``; the table has all.
    """

    name: ClassVar[str] = "weights-histogram"
    needs_weights: ClassVar[bool] = True
    layers: str = "*"
    """A shell-style pattern: which weight layers are drawn."""
    bins: Annotated[int, Field(ge=2)] = 50
    """Bins of each histogram."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` if `layers` matches nothing."""
        select(graph.weight_layers, self.layers)

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Draw."""
        from matplotlib.figure import Figure

        names = select(graph.weight_layers, self.layers)
        weights = {}
        for name in names:
            with at_layer(name):
                weights[name] = _weights(graph.weight_layers[name].module)
        shown = list(weights)[:_MOST]
        figure = Figure(figsize=(8, 2.4 * len(shown)), layout="constrained")
        axes = figure.subplots(len(shown), 2, squeeze=False)
        for row, name in zip(axes, shown, strict=True):
            ends = [float(each.min()) for each in weights[name]], [float(each.max()) for each in weights[name]]
            for place, values, title in zip(row, weights[name], ("full precision", "quantized"), strict=True):
                place.hist(
                    values.flatten().tolist(), bins=self.bins, range=(min(ends[0]), max(ends[1])), color="#1565c0"
                )
                place.set_title(f"{name}, {title}", fontsize=9)
                place.spines[["top", "right"]].set_visible(False)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=120)
        rows = tuple(
            (name, before.numel(), before.unique().numel(), after.unique().numel())
            for name, (before, after) in weights.items()
        )
        table = TextTable(("layer", "weights", "values before", "values now"), rows)
        data = {"layers": {name: {"before": b, "now": n} for name, _, b, n in rows}}
        files = {"weights-histogram.png": picture.getvalue()}
        return Report(f"{len(rows)} layers", (table,), data, files=files)


def _weights(module: "nn.Module") -> "tuple[Tensor, Tensor]":
    """Return a layer's weights at full precision, where it has them still, and as they are: both float32 on the CPU."""
    from q2.quant.simulated import Simulated

    now = weight_of(module)
    before = module._parameters.get("weight")
    if isinstance(module, Simulated) and module.exact is not None:
        before = module.exact  # type: ignore[assignment]
    full = now if before is None else before.detach()
    return full.float().cpu(), now.float().cpu()
