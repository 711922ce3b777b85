"""Switching from recipe to recipe: what a pass for every recipe did is undone before the next."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from q2.errors import Q2Error
from q2.graph import Graph
from q2.passes import Change, Pass, PassContext, PassManager, TransformPass
from q2.passes.transform.quantize import Quantize
from q2.passes.transform.switch import Switch, WeightsBefore
from q2.quant import Option

from .toys import one_of_each


@dataclass(frozen=True)
class Unsettles(TransformPass):
    """Write to a bias, put another parameter, another module and a rewrite in place."""

    name: ClassVar[str] = "unsettles"
    per_recipe: ClassVar[bool] = True
    fails: bool = False

    @torch.no_grad()
    def run(self, graph: Graph, ctx: PassContext) -> Change:
        layer: Any = graph.weight_layers["head"].module
        layer.bias += 1
        other: Any = graph.weight_layers["tail"].module
        other.bias = nn.Parameter(torch.ones(3))
        graph.replace("image", nn.Identity())
        graph.rewrite("unsettles", lambda model, traced: None)
        if self.fails:
            raise Q2Error("halfway")
        return Change("unsettled")


@dataclass(frozen=True)
class Scales(TransformPass):
    """Write to a weight, and divide again."""

    name: ClassVar[str] = "scales"
    per_recipe: ClassVar[bool] = True

    def run(self, graph: Graph, ctx: PassContext) -> Change:
        self._times(graph, 2.0)
        return Change("scaled", changed=("head",))

    def undo(self, graph: Graph, ctx: PassContext) -> None:
        self._times(graph, 0.5)

    @torch.no_grad()
    def _times(self, graph: Graph, factor: float) -> None:
        layer: Any = graph.weight_layers["head"].module
        layer.weight.mul_(factor)


@dataclass(frozen=True)
class Careless(Scales):
    """Scale, and not take it back."""

    name: ClassVar[str] = "careless"

    undo = TransformPass.undo


def switch(graph: Graph, *steps: Pass) -> Switch:
    ctx = PassContext()
    passes = [("quantize", Quantize()), *((step.name, step) for step in steps)]
    return Switch(graph, ctx, PassManager(passes, ctx, only=lambda step: step in steps))


def state(graph: Graph) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in graph.model.state_dict().items()}


def recipe(graph: Graph, option: str) -> dict[str, Option]:
    return dict.fromkeys(graph.choices, Option.parse(option))


@pytest.mark.parametrize("steps", [(Unsettles(),), (Scales(),), (Scales(), Unsettles()), (Scales(), Unsettles(True))])
def test_every_recipe_starts_from_full_precision(steps: tuple[Pass, ...]) -> None:
    graph = one_of_each()
    plain, kinds = state(graph), [type(module) for module in graph.model.modules()]
    change = switch(graph, *steps)
    for option in ("uaq-2", "uaq-4", "none"):
        with pytest.raises(Q2Error, match="halfway") if Unsettles(True) in steps else nullcontext():
            change(recipe(graph, option))
        assert any(not torch.equal(plain.get(name, tensor + 1), tensor) for name, tensor in state(graph).items())
    change._undo()
    assert dict(graph.rewrites) == {}
    assert all(isinstance(module, kind) for module, kind in zip(graph.model.modules(), kinds, strict=True))
    after = state(graph)
    assert after.keys() == plain.keys()
    for name, tensor in plain.items():
        assert torch.equal(after[name], tensor)


def test_a_weight_that_nobody_would_bring_back_is_an_error() -> None:
    graph = one_of_each()
    with pytest.raises(Q2Error, match=r"'careless' changed the weight of 'head', and has no undo\(\) for a search"):
        switch(graph, Careless())(recipe(graph, "uaq-4"))


def test_weights_before_see_a_write_and_another_tensor() -> None:
    graph = one_of_each()
    weights = WeightsBefore(graph)
    assert weights.changed() is None
    Scales().run(graph, PassContext())
    assert weights.written() == weights.changed() == "head"
    weights = WeightsBefore(graph)
    layer: Any = graph.weight_layers["tail"].module
    layer.weight = nn.Parameter(layer.weight.detach().clone())
    assert weights.changed() == "tail"
    assert weights.written() is None
