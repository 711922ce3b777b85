"""The pass `lowrank`: splits a Linear's weight into a low-rank branch that stays, and a residual to be quantized."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from q2.errors import ConfigError, Q2Error
from q2.graph import Graph
from q2.passes import Change, PassContext, TextTable, TransformPass, at_layer, select, weight_of
from q2.quant.packed.layers import Packed
from q2.quant.simulated import Quantized

__all__ = ["LowRank", "LowRankLinear"]


class LowRankLinear(nn.Linear):
    """A Linear that computes ``x weight^T + (x down^T) up^T + bias``: its `weight` (O, I) is what the branch leaves.

    `down` is (rank, I) and `up` (O, rank).
    """

    down: Tensor
    up: Tensor

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse the packed form of the layer: files of packed layers have no place for the branch."""
        super().__init_subclass__(**kwargs)
        if issubclass(cls, Packed):
            raise Q2Error("has a low-rank branch, which a saved folder or an export cannot keep")

    @classmethod
    def of(cls, linear: nn.Linear, down: Tensor, up: Tensor) -> "LowRankLinear":
        """Return a layer that computes what `linear` does but for rounding, with its bias and training mode."""
        layer = cls(linear.in_features, linear.out_features, bias=False, device="meta")
        weight = weight_of(linear)
        rest = weight.double() - up.double() @ down.double()
        layer.weight = nn.Parameter(rest.to(weight.dtype), requires_grad=False)
        layer.register_parameter("bias", linear.bias)
        layer.register_buffer("down", down)
        layer.register_buffer("up", up)
        return layer.train(linear.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Linear's name)
        """Add the branch to what a Linear puts out."""
        linear = nn.functional.linear
        return super().forward(input) + linear(linear(input, self.down), self.up)


@dataclass(frozen=True)
class LowRank(TransformPass):
    """Give every Linear that `layers` matches a branch of rank `rank`, which stays at full precision.

    The branch is the best approximation of the weight (its largest singular values); put the pass before `quantize`,
    which then quantizes the residual, whose values are smaller and more alike. Bits of the branch come on top of those
    that `size` reports: this pass says how many. A Linear that is smaller than the branch stays as it is.

    Weights are no longer those of the checkpoint: the pass suits a transform, samples and an evaluation, and
    `calibrate` may follow `quantize`. A search with a bank, a saved folder and an export refuse it.
    Source: Li et al., SVDQuant, ICLR'25, section 4.2 (without its smoothing).
    """

    name: ClassVar[str] = "lowrank"
    needs_weights: ClassVar[bool] = True
    rank: int = 8
    layers: str = "*"

    def check(self, graph: Graph, ctx: PassContext) -> None:
        """Raise `ConfigError` for a rank below 1, and if `layers` matches nothing."""
        if self.rank < 1:
            raise ConfigError(f"rank: expected 1 or more, not {self.rank}")
        select(graph.weight_layers, self.layers)

    def run(self, graph: Graph, ctx: PassContext) -> Change:
        """Replace the layers. Raises `Q2Error` for one that is quantized already."""
        rows: list[tuple[str, float, float]] = []
        numbers = 0
        names = select(graph.weight_layers, self.layers)
        for name in ctx.progress(names, "lowrank", len(names)):
            layer = graph.weight_layers[name]
            branch = self.rank * sum(layer.shape[:2])
            if layer.type != "Linear" or branch >= layer.weights:
                continue
            with at_layer(name), torch.no_grad():
                if isinstance(layer.module, Quantized):
                    raise Q2Error("is quantized already; put 'lowrank' before 'quantize'")
                if not isinstance(layer.module, nn.Linear) or type(layer.module).forward is not nn.Linear.forward:
                    raise Q2Error(f"is a {type(layer.module).__name__} with a forward of its own; leave it out")
                weight = weight_of(layer.module)
                down, up, kept = _factors(weight, self.rank)
                graph.replace(name, LowRankLinear.of(layer.module, down, up))
            numbers += branch
            rows.append((name, kept, branch * ctx.prec / layer.weights))
        weights = sum(layer.weights for layer in graph.weight_layers.values())
        extra = numbers * ctx.prec / weights
        summary = f"branches of rank {self.rank} in {len(rows)} of {len(graph.weight_layers)} layers"
        summary += f": {numbers * ctx.prec // 8 / 1e6:.2f} MB, {extra:.3f} bits a weight on top"
        heads = ("layer", "share of the weight's energy", "bits a weight on top")
        data = {"avg_bits": extra, "layers": {name: kept for name, kept, _ in rows}}
        return Change(summary, (TextTable(heads, tuple(rows)),), data, tuple(name for name, *_ in rows))


def _factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Return down (rank, I) and up (O, rank) in the weight's dtype, and the share of Σ w² that they have."""
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    root = values[:rank].sqrt()
    down, up = (root[:, None] * right[:rank]).to(weight.dtype), (left[:, :rank] * root).to(weight.dtype)
    energy = values.square()
    return down, up, float(energy[:rank].sum() / energy.sum().clamp(min=torch.finfo(torch.float64).tiny))
