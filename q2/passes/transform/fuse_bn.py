"""Batch norms folded into the layers before them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from q2.passes.base import Change, PassContext, TextTable, TransformPass, at_layer

if TYPE_CHECKING:
    from torch import nn

    from q2.graph import Graph

__all__ = ["FuseBn"]


@dataclass(frozen=True)
class FuseBn(TransformPass):
    """Fold every batch norm into the Linear or convolution whose output it alone reads; it becomes an identity.

    The layer's weights are scaled by γ / √(σ² + ε) and its bias takes the rest, computed in float64: outputs stay the
    same but for rounding. Norms behind anything else, or behind a quantized layer, stay, and are listed.
    Source: Jacob et al., CVPR'18, section 3.2.
    """

    name: ClassVar[str] = "fuse-bn"
    needs_weights: ClassVar[bool] = True

    def run(self, graph: "Graph", ctx: PassContext) -> Change:
        """Replace layers and norms; nothing is shared with what was there."""
        import torch
        from torch import nn

        from q2.quant.simulated import Quantized

        kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        rows: list[tuple[str, str]] = []
        changed: list[str] = []
        calls: dict[str, int] = {}
        for node in graph.fx.nodes:
            if node.op == "call_module":
                calls[str(node.target)] = calls.get(str(node.target), 0) + 1
        for node in list(graph.fx.nodes):
            norm = graph.model.get_submodule(str(node.target)) if node.op == "call_module" else None
            if not isinstance(norm, kinds):
                continue
            name, source = str(node.target), node.all_input_nodes[0]
            before = str(source.target) if source.op == "call_module" else ""
            why = ""
            if before not in graph.weight_layers:
                why = f"stays: {before or source.name} before it is no weight layer"
            elif len(source.users) > 1 or calls[before] > 1 or calls[name] > 1:
                why = f"stays: {before} is read elsewhere too"
            elif isinstance(graph.model.get_submodule(before), Quantized) or isinstance(norm, Quantized):
                why = f"stays: {before} is quantized already"
            elif norm.running_mean is None:
                why = "stays: it keeps no running mean"
            if why:
                rows.append((name, why))
                continue
            with at_layer(name), torch.no_grad():
                graph.replace(before, _folded(graph.model.get_submodule(before), norm))
                graph.replace(name, nn.Identity())
            rows.append((name, f"into {before}"))
            changed += [before, name]
        table = TextTable(("batch norm", "folded"), tuple(rows))
        data = {"folded": len(changed) // 2, "norms": dict(rows)}
        return Change(f"{len(changed) // 2} of {len(rows)} batch norms folded", (table,), data, tuple(changed))


def _folded(layer: "nn.Module", norm: "nn.Module") -> "nn.Module":
    """Return a layer of its own that computes ``norm(layer(x))``."""
    import copy

    import torch
    from torch import nn

    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    mean = norm.running_mean.double()
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = torch.zeros_like(mean)
    if norm.affine:
        scale, shift = scale * norm.weight.double(), norm.bias.double()
    own = layer.bias
    bias = own.double() if isinstance(own, torch.Tensor) else torch.zeros_like(mean)
    folded = copy.deepcopy(layer)
    shape = (-1, *(1,) * (weight.ndim - 1))
    folded.weight = nn.Parameter((weight.double() * scale.view(shape)).to(weight.dtype), requires_grad=False)
    folded.bias = nn.Parameter(((bias - mean) * scale + shift).to(weight.dtype), requires_grad=False)
    return folded
