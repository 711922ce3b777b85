"""What options do to the denoiser's outputs, to first order: from gradients in random directions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from q2.denoisers import Denoiser
from q2.denoisers.recorded import RecordedCall, output_of
from q2.errors import Q2Error
from q2.graph import Choice, Graph
from q2.passes import PassContext
from q2.passes.transform.apply import exact_weight
from q2.passes.transform.exact import at_full_precision
from q2.quant import Option, Part
from q2.quant.kinds import QUANTIZERS
from q2.quant.options import NONE
from q2.search.space import Space
from q2.search.strategies.base import Estimator

__all__ = ["OutputGradients"]

_GIB = 1 << 30
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutputGradients:
    """Sensitivities of a loaded denoiser's outputs, for the calls that full precision had; see `GradientErrors`.

    With v a standard normal direction for every output, divided by the norm of the output at full precision, the
    gradient g = Jᵀv of a weight gives (g·dW)², whose mean over v is |J dW|² / |f|²: the noise to signal that the change
    dW of the weight alone adds, to first order. Its deviation after M passes is a share √(2/M). ``diagonal`` is the sum
    of g² dW² instead, which leaves out how the errors of the weights go together.
    """

    denoiser: Denoiser
    graph: Graph
    ctx: PassContext
    space: Space
    calls: Callable[[], Iterable[RecordedCall]]
    seed: int = 0
    _known: dict[tuple[int, Estimator], Array] = field(default_factory=dict, repr=False)

    def __call__(self, passes: int, estimate: Estimator, memory: float) -> Array:
        """Return the noise (choices, options of the space), 0 for ``none``. Raises `Q2Error` without gradients."""
        if (passes, estimate) not in self._known:
            self._known[passes, estimate] = self._worked_out(passes, estimate, memory)
        return self._known[passes, estimate].copy()

    def _worked_out(self, passes: int, estimate: Estimator, memory: float) -> Array:
        calls = list(self.calls())
        found = np.zeros((len(self.space), len(self.space.options)))
        with at_full_precision(self.graph, self.ctx):
            layers = dict.fromkeys(self.graph.choices[name].layer.name for name in self.space.layers)
            weights = {name: self._weight(name) for name in layers}
            each = sum(weight.numel() * weight.element_size() for weight in weights.values())
            block = max(1, min(passes, int(memory * _GIB / each)))
            held: list[Mapping[str, Tensor]] = []
            for number in self.ctx.progress(range(passes), "gradients", passes):
                held.append(self._gradients(calls[number % len(calls)], weights, number))
                if len(held) == block or number == passes - 1:
                    found += self._sums(held, estimate)
                    held = []
        return found / passes

    def _weight(self, layer: str) -> Tensor:
        weight = self.graph.weight_layers[layer].module.weight
        assert isinstance(weight, Tensor)
        return weight

    def _gradients(self, call: RecordedCall, weights: Mapping[str, Tensor], number: int) -> Mapping[str, Tensor]:
        """Return the gradients of one direction over a call, scaled so that squares are means over its inputs."""
        device = self.denoiser.device
        args, kwargs = pytree.tree_map_only(Tensor, lambda leaf: leaf.to(device), (call.args, call.kwargs))
        generator = torch.Generator().manual_seed(int(np.random.default_rng([self.seed, number]).integers(1 << 62)))
        full = call.output.double().flatten(1)
        direction = torch.randn(full.shape, generator=generator, dtype=torch.float64)
        direction /= full.norm(dim=1, keepdim=True).clamp_min(1e-30) * len(full) ** 0.5
        wanted = list(weights.values())
        try:
            for weight in wanted:
                weight.requires_grad_(True)
            with self.graph.installed(), torch.enable_grad():
                output = output_of(self.denoiser.model(*args, **kwargs))
                if not output.requires_grad:
                    raise Q2Error("the outputs have no gradients: something in the model runs without them")
                along = direction.reshape(call.output.shape).to(output.device, output.dtype)
                found = torch.autograd.grad(output, wanted, along, allow_unused=True)
        finally:
            for weight in wanted:
                weight.requires_grad_(False)
        return {name: each.cpu() for name, each in zip(weights, found, strict=True) if each is not None}

    @torch.no_grad()
    def _sums(self, held: Sequence[Mapping[str, Tensor]], estimate: Estimator) -> Array:
        """Return the sums over passes (choices, options): one layer's change of weight at a time is in memory."""
        dots = np.zeros((len(held), len(self.space), len(self.space.options)))
        sums = np.zeros(dots.shape[1:])
        for name, place in self.space.layers.items():
            choice = self.graph.choices[name]
            layer = choice.layer.name
            if layer not in held[0]:  # it never ran
                continue
            exact = exact_weight(choice.layer, self.ctx).cpu()
            mine = Part(Option.parse(NONE), None, choice.channels)
            gradients = torch.stack([mine.of(each[layer]) for each in held])
            for column, text in enumerate(self.space.options):
                change = self._change(choice, Option.parse(text), exact)
                if change is None or text not in self.space.choices[place].options:
                    continue
                if estimate == "full":
                    dots[:, place, column] += np.asarray(gradients.flatten(1).float() @ change.flatten())
                else:
                    sums[place, column] += float((gradients.float().square().sum(0) * change.square()).sum())
        return np.asarray((dots**2).sum(0)) if estimate == "full" else sums

    def _change(self, choice: Choice, option: Option, exact: Tensor) -> Tensor | None:
        """Return what an option does to a choice's weight, float32; None for one that leaves it."""
        if option.is_none:
            return None
        weight = Part(option, None, choice.channels).of(exact).contiguous()
        fitted: Any = self.ctx.bank.fitted(choice.name, option) if self.ctx.bank else None
        if fitted is None:
            fitted = self.ctx.plugins.of(QUANTIZERS).load(option.quantizer)().fit(weight, option.bits, self.ctx.prec)
        restored: Tensor = fitted.restore(weight)
        return restored.float() - weight.float()
