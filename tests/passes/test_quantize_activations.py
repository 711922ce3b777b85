"""The quantize-activations pass: which inputs of layers are quantized, in all that runs, and nowhere else."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import q2
from q2.graph import Graph
from q2.passes.analysis.bops import Bops
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig
from q2.quant.activations import quantize_activation
from tests.graph.influence import watched
from tests.graph.tiny import FAMILIES
from tests.passes.activations import act, sample, step

from .toys import one_of_each


def inputs_of_layers(graph: Graph, **call: Any) -> dict[str, Tensor]:
    """What every layer reads while the graph runs, at its last call."""
    seen: dict[str, Tensor] = {}

    def note(name: str, given: Tensor, output: Tensor) -> Tensor:
        seen[name] = given
        return output

    with watched(graph.model, list(graph.weight_layers), note):
        graph(**call)
    return seen


def most_levels(tokens: Tensor) -> int:
    return max(len(token.unique()) for token in tokens)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_eight_bits_change_the_output_fewer_change_it_more_and_sixteen_do_not(name: str) -> None:
    model, call = FAMILIES[name].build(), FAMILIES[name].example(batch=2)
    graph, exact = q2.trace(model, call), sample(model(**call))
    errors = []
    for table in ({"bits": 8}, {"bits": 6}, {"bits": 4}, {"bits": "none", "attention": 8}, {"bits": 16}):
        act(graph, **table)
        assert torch.equal(sample(model(**call)), exact)  # the model's own forward is not touched
        with graph.installed():
            found = sample(model(**call))
        assert torch.equal(found, sample(graph(**call)))
        errors.append(float((found - exact).norm() / exact.norm()))
    eight, six, four, attention, sixteen = errors
    assert 0 < eight < six < four < 0.5
    assert attention > 0
    assert sixteen == 0
    assert not graph.rewrites


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_every_layer_reads_at_most_as_many_levels_as_its_bits_give(name: str) -> None:
    call = FAMILIES[name].example()
    graph = q2.trace(FAMILIES[name].build(), call)
    report = act(graph, bits=4)
    read = inputs_of_layers(graph, **call)
    assert report.changed == tuple(graph.weight_layers)
    for choice in graph.choices.values():
        given = read[choice.layer.name]
        if choice.layer.type == "Linear":
            start, stop = choice.channels or (0, given.shape[-1])
            tokens = given[..., start:stop].flatten(0, -2)
        else:
            tokens = given.flatten(0, 1).flatten(1)
        assert most_levels(tokens) <= 16


class Twice(nn.Module):
    """A layer that is called twice, one under two names, and one that reads a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.up = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(8, 4)
        self.again = self.shared

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(x)
        hidden = 10 * self.again(self.shared(F.silu(skip)))
        found: Tensor = self.up(torch.cat([hidden, skip], -1))
        return found


def twice() -> tuple[Graph, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(3, 5, 4)
    return q2.trace(Twice(), {"x": x}), x


def test_tied_and_repeated_layers_and_the_parts_of_a_split_one_are_quantized_at_every_call() -> None:
    graph, x = twice()
    model = graph.model
    assert list(graph.choices) == ["first", "shared", "up", "up#1"]
    act(graph, bits=5, by="name", **{"up#1": 7})

    def q(x: Tensor, bits: int = 5) -> Tensor:
        return quantize_activation(x, bits)

    assert isinstance(model, Twice)
    skip = model.first(q(x))
    hidden = 10 * model.shared(q(model.shared(q(F.silu(skip)))))
    assert torch.equal(graph(x), model.up(torch.cat([q(hidden), q(skip, 7)], -1)))
    assert not torch.equal(q(torch.cat([hidden, skip], -1)), torch.cat([q(hidden), q(skip)], -1))


def test_layers_that_read_one_value_share_its_quantization_unless_it_is_written_to() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = x * 1
            read = self.a(x) + self.b(x)
            x += 1
            found: Tensor = read + self.c(x)
            return found

    torch.manual_seed(0)
    x = torch.randn(2, 4)
    graph = q2.trace(Written(), {"x": x})
    act(graph, bits=4)
    a, b, c = (graph.weight_layers[name].module for name in "abc")
    once = quantize_activation(x, 4)
    assert torch.equal(graph(x), a(once) + b(once) + c(quantize_activation(x + 1, 4)))
    rewritten = copy.deepcopy(graph.fx)
    graph.rewrites["quantize-activations"](graph.model, rewritten)
    assert sum(node.target is quantize_activation for node in rewritten.nodes) == 2


def test_convolutions_are_quantized_by_channel() -> None:
    graph = one_of_each()
    x = torch.randn(2, 2, 4, 4)
    act(graph, bits="none", conv2d=4, conv1d=5)
    read = inputs_of_layers(graph, sample=x)
    assert torch.equal(read["image"], quantize_activation(x, 4))
    assert most_levels(read["row"].flatten(0, 1)) <= 32
    assert most_levels(read["head"].flatten(0, 1)) > 4


@torch.no_grad()
def test_a_path_traced_later_is_quantized_too() -> None:
    family = FAMILIES["pixart-alpha"]
    model, call, other = family.build(), family.example(), family.example(size=12, batch=2)
    graph = q2.trace(model, call)
    act(graph, bits=6)
    graph(**call)
    exact, found = sample(model(**other)), sample(graph(**other))
    assert graph.variants == 2
    fresh = q2.trace(model, other)
    act(fresh, bits=6)
    assert torch.equal(found, sample(fresh(**other)))
    assert not torch.equal(found, exact)
    act(graph, bits="none")
    assert torch.equal(sample(graph(**other)), exact)


def weights(option: str) -> Quantize:
    name, _, width = option.rpartition("-")
    return Quantize(rules={"linear": Rule(RuleConfig(name, int(width)))})


def test_weights_and_activations_are_quantized_in_any_order_twice_and_switched_in_place() -> None:
    x = torch.randn(2, 2, 4, 4)
    one, other = one_of_each(), one_of_each()
    q2.run_passes(one, [weights("uaq-3"), step(bits=6)])
    q2.run_passes(other, [step(bits=4), weights("kmeans-c-2"), step(bits=6), weights("uaq-3"), step(bits=6)])
    assert torch.equal(one(x), other(x))
    plain = one_of_each()
    q2.run_passes(plain, [weights("uaq-3")])
    assert not torch.equal(one(x), plain(x))
    q2.run_passes(one, [step(bits="none")])
    assert torch.equal(one(x), plain(x))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's own, when a graph is unpickled
def test_copies_and_pickles_keep_the_activations() -> None:
    graph, x = twice()
    act(graph, bits=4)
    found = graph(x)
    for twin in (copy.deepcopy(graph), pickle.loads(pickle.dumps(graph))):
        assert torch.equal(twin(x), found)
        assert not torch.equal(found, twin.model(x))


def test_bops_take_the_bits_in_place_unless_told_otherwise() -> None:
    graph = one_of_each()
    macs = {name: layer.macs for name, layer in graph.weight_layers.items()}
    full = q2.run_passes(graph, [Bops()])[0].report.data
    results = q2.run_passes(graph, [step(by="name", head=6, image="none"), weights("uaq-4"), Bops(), Bops(16)])
    norm = 2 * 4 * 16 * 32
    layers = 16 * 16 * macs["image"] + 16 * 8 * macs["row"] + 4 * 6 * macs["head"] + 4 * 8 * macs["tail"]
    data = results[2].report.data
    assert data["tbops"] == (layers + norm) / 1e12
    inputs = 16 * macs["image"] + 8 * (macs["row"] + macs["tail"]) + 6 * macs["head"]
    assert data["activation_bits"] == inputs / sum(macs.values())
    assert full["activation_bits"] == results[3].report.data["activation_bits"] == 16
    q2.run_passes(graph, [weights("uaq-8"), step(bits="none")])
    assert q2.run_passes(graph, [Bops()])[0].report.data["activation_bits"] == 16
