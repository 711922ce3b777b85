"""Switches a graph from one recipe to the next, with the passes that run for every recipe."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from q2.errors import Q2Error
from q2.graph import Graph
from q2.passes.analysis.units import UNITS
from q2.passes.base import PassContext, TransformPass
from q2.passes.building import QUANTIZE
from q2.passes.manager import PassManager
from q2.passes.transform.apply import apply_options
from q2.quant import Option

__all__ = ["Switch", "WeightsBefore"]


class Switch:
    """Gives the graph one recipe after the other: what `passes` did for a recipe is undone before the next."""

    def __init__(self, graph: Graph, ctx: PassContext, passes: PassManager) -> None:
        self.graph, self.ctx, self.passes = graph, ctx, passes
        self._before: _State | None = None
        self._steps = [step for _, step in passes.passes if passes.only(step) and isinstance(step, TransformPass)]
        self._started = 0

    def __call__(self, plan: Mapping[str, Option]) -> None:
        """Apply a recipe's options, then run the passes. Raises `Q2Error` for what could not be undone."""
        self._undo()
        apply_options(self.graph, plan, self.ctx)
        if not self._steps:
            return
        self.graph.facts.drop(preserve={UNITS}, by=QUANTIZE)
        self._before, weights = _State(self.graph), WeightsBefore(self.graph)
        self._started = 1
        for result in self.passes.each(self.graph):
            self._started += result.step in self._steps
            changed = weights.written()
            if changed and isinstance(result.step, TransformPass) and type(result.step).undo is TransformPass.undo:
                raise Q2Error(f"{result.step.name!r} changed the weight of {changed!r}, and has no undo() for a search")
            weights = WeightsBefore(self.graph)

    def _undo(self) -> None:
        before, self._before = self._before, None
        if before is not None:
            for step in reversed(self._steps[: self._started]):
                step.undo(self.graph, self.ctx)
            before.restore()


class WeightsBefore:
    """Remembers the weights of weight layers, to say whether a pass has changed one."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self._weights = graph, _weights(graph)
        self._versions = {name: weight._version for name, weight in self._weights.items()}

    def written(self) -> str | None:
        """Return the name of a layer whose weight, as it was, has been written to since."""
        return next((name for name, each in self._weights.items() if each._version != self._versions[name]), None)

    def changed(self) -> str | None:
        """Return the name of a layer whose weight has been written to since, or is another tensor now."""
        now = _weights(self.graph)
        return self.written() or next((name for name, each in self._weights.items() if now.get(name) is not each), None)


def _weights(graph: Graph) -> dict[str, Tensor]:
    weights = {name: getattr(layer.module, "weight", None) for name, layer in graph.weight_layers.items()}
    return {name: weight for name, weight in weights.items() if isinstance(weight, Tensor)}


class _State:
    """A graph's modules, parameters, buffers and rewrites, with values but for the weights of weight layers."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.rewrites = graph, dict(graph.rewrites)
        self.modules = dict(graph.model.named_modules())
        weights = {id(weight) for weight in _weights(graph).values()}
        self.held: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.values: list[tuple[Tensor, Tensor]] = []
        for module in self.modules.values():
            for own in (module._parameters, module._buffers):
                self.held.append((own, dict(own)))
                tensors = [tensor for tensor in own.values() if tensor is not None and id(tensor) not in weights]
                self.values += [(tensor, tensor.detach().clone()) for tensor in tensors]

    @torch.no_grad()
    def restore(self) -> None:
        """Make the graph what it was."""
        for name, module in self.modules.items():
            if name and _at(self.graph.model, name) is not module:
                self.graph.replace(name, module)
        for own, before in self.held:
            own.clear()
            own.update(before)
        for tensor, value in self.values:
            tensor.copy_(value)
        for name in {*self.graph.rewrites, *self.rewrites}:
            if self.graph.rewrites.get(name) is not self.rewrites.get(name):
                self.graph.rewrite(name, self.rewrites.get(name))


def _at(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:
        return None
