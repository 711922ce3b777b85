"""The quantize-activations pass: where values are quantized, in all that runs, and nowhere else."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn import functional as F

import q2
from q2.config import Key
from q2.errors import ConfigError, TraceError
from q2.graph import Graph
from q2.passes import PassContext
from q2.passes.analysis.bops import Bops
from q2.passes.transform import activations
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.quant.activations import quantize_activation, quantized_attention
from tests.graph.influence import watched
from tests.graph.tiny import FAMILIES

from .toys import one_of_each


def where(key: Key) -> str:
    return ".".join(("run.toml: passes.quantize-activations", *key))


def step(**table: Any) -> QuantizeActivations:
    return QuantizeActivations.from_table(table, where)


def act(graph: Graph, **table: Any) -> Any:
    return q2.run_passes(graph, [step(**table)], verify_each=True)[0].report


def sample(output: Any) -> Tensor:
    found = output if isinstance(output, Tensor) else output[0]
    assert isinstance(found, Tensor)
    return found


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


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_attention_is_quantized_where_torch_gets_its_queries_keys_and_values(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the quantizer is given are the arguments of torch's function in the model itself: after norm and RoPE."""
    model, call = FAMILIES[name].build(), FAMILIES[name].example(batch=2)
    graph, torch_attention = q2.trace(model, call), F.scaled_dot_product_attention
    eager: list[tuple[Tensor, ...]] = []
    ours: list[tuple[Tensor, ...]] = []

    def note(q: Tensor, k: Tensor, v: Tensor, *args: Any, **options: Any) -> Tensor:
        eager.append((q, k, v))
        return torch_attention(q, k, v, *args, **options)

    def quantized(q: Tensor, k: Tensor, v: Tensor, *, bits: int, softmax: int, **options: Any) -> Tensor:
        assert (bits, softmax) == (6, 8)
        ours.append((q, k, v))
        return torch_attention(q, k, v, **options)

    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", note)
        exact = sample(model(**call))
    if name == "hunyuan":
        del eager[0]  # that of the text pooler, a single function of torch
    monkeypatch.setattr(activations, "quantized_attention", quantized)
    act(graph, bits="none", attention=6)
    assert torch.equal(sample(graph(**call)), exact)
    assert len(ours) == len(eager) == len(graph.attentions) > 0
    assert all(
        torch.equal(a, b) for one, other in zip(ours, eager, strict=True) for a, b in zip(one, other, strict=True)
    )


@torch.no_grad()
def test_hunyuans_queries_and_keys_are_quantized_after_norm_and_rotary_embedding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = FAMILIES["hunyuan"].example()
    graph = q2.trace(FAMILIES["hunyuan"].build(), call)
    given: list[tuple[Tensor, Tensor]] = []

    def quantized(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        given.append((q, k))
        return quantized_attention(q, k, v, **options)

    monkeypatch.setattr(activations, "quantized_attention", quantized)
    act(graph, bits="none", attention=8)
    projected: dict[str, Tensor] = {}
    first = "blocks.0.attn1"

    def note(name: str, _: Tensor, output: Tensor) -> Tensor:
        projected[name] = output
        return output

    with watched(graph.model, [f"{first}.to_q", f"{first}.to_k"], note):
        graph(**call)
    attention: Any = graph.model.get_submodule(first)
    assert attention.norm_q is not None
    for found, name, norm in zip(given[0], ("to_q", "to_k"), (attention.norm_q, attention.norm_k), strict=True):
        output = projected[f"{first}.{name}"]
        heads = output.view(output.shape[0], -1, attention.heads, found.shape[-1]).transpose(1, 2)
        rotated = apply_rotary_emb(norm(heads), call["image_rotary_emb"])
        assert torch.equal(found, rotated)
        assert not torch.allclose(found, heads)
        assert not torch.allclose(found, norm(heads))


Product = Callable[[Tensor, Tensor, Tensor], Tensor]


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=0.5)


def operators(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.dropout(((q @ k.transpose(-1, -2)) * 0.5).softmax(-1), 0.0).to(v.dtype) @ v


def batched(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    empty = torch.zeros(q.shape[0], q.shape[1], k.shape[1])
    scores = torch.baddbmm(empty, q, k.transpose(1, 2), beta=0, alpha=0.5)
    return torch.bmm(F.softmax(scores, dim=-1), v)


def summed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(torch.einsum("bid, bjd -> bij", q * 0.5, k), dim=2)
    return torch.einsum("bij,bjd->bid", weights, v)


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.bmm(self.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.5), v)


def transposed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(torch.matmul(k, q.transpose(1, 2)) * 0.5, dim=1)
    return torch.matmul(v.transpose(1, 2), weights).transpose(1, 2)


class Attend(nn.Module):
    def __init__(self, attention: Product) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.attention(q, k, v)


@pytest.mark.parametrize("written", [fused, operators, batched, summed, transposed, Layered()])
def test_attention_written_out_is_quantized_as_the_fused_one(written: Product) -> None:
    torch.manual_seed(0)
    call = {"q": torch.randn(2, 5, 4), "k": torch.randn(2, 7, 4) + 1, "v": torch.randn(2, 7, 3)}
    graph = q2.trace(Attend(written), call)
    report = act(graph, bits=5, softmax=4)
    assert report.summary == "inputs of 0 of 0 weight layers, 1 of 1 attentions"
    expected = quantized_attention(call["q"], call["k"], call["v"], scale=0.5, bits=5, softmax=4)
    assert torch.allclose(graph(**call), expected, atol=1e-6)
    assert not torch.allclose(graph(**call), graph.model(**call), atol=1e-3)
    act(graph, bits=5, attention=False)
    assert torch.equal(graph(**call), graph.model(**call))


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


def test_rules_are_by_type_name_or_regex_and_the_first_that_matches_wins() -> None:
    def bits(**table: Any) -> dict[str, int]:
        found = act(graph, **table).data["layers"]
        assert isinstance(found, dict)
        return found

    graph = one_of_each()
    assert bits(linear=6, conv2d="none") == {"image": 16, "row": 8, "head": 6, "tail": 6}
    assert bits(by="name", bits="none", tail=5) == {"image": 16, "row": 16, "head": 16, "tail": 5}
    assert bits(by="regex", **{"^head$": 4, "a": 7}) == {"image": 7, "row": 8, "head": 4, "tail": 7}


def test_attention_is_ruled_by_its_modules_name_and_reported_by_type() -> None:
    call = FAMILIES["pixart-alpha"].example()
    graph = q2.trace(FAMILIES["pixart-alpha"].build(), call)
    report = act(graph, by="regex", **{r"attn2$": "none", r"attn1$": 6, r"to_[qkv]$": 4})
    assert report.data["attention"] == {"transformer_blocks.0.attn1": 6, "transformer_blocks.1.attn1": 6}
    assert report.tables[0].headers == ("type", "bits", "softmax bits", "inputs")
    rows = {row[:3]: row[3] for row in report.tables[0].rows}
    assert rows["attention", 6, 8] == rows["attention", 16, "–"] == 2
    assert rows["Linear", 4, "–"] == 12
    assert report.summary == "inputs of 27 of 27 weight layers, 2 of 4 attentions"


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


def test_bops_of_attention_take_the_bits_in_place() -> None:
    call = {name: torch.randn(1, 5, 4) for name in "qkv"}
    graph = q2.trace(Attend(operators), call)
    for table, qk, pv in (
        ({"bits": 6}, 36, 48),
        ({"bits": 8, "softmax": "none"}, 64, 128),
        ({"bits": "none"}, 256, 256),
    ):
        data = q2.run_passes(graph, [step(**table), Bops()])[1].report.data
        assert data["tbops"] == pytest.approx((100 * qk + 100 * pv + 25 * 16) / 1e12, rel=1e-12)


def test_options_are_written_as_they_are_read() -> None:
    table = {"bits": 6, "softmax": "none", "attention": False, "by": "regex", "attn1": 4}
    assert step(**table).to_table() == table
    assert step().to_table() == {"bits": 8, "softmax": 8, "attention": True, "by": "type"}


PLACE = "run.toml: passes.quantize-activations"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"bits": 3}, f"{PLACE}.bits: should be 4 to 8, or 'none', not 3"),
        ({"bits": "eight"}, f"{PLACE}.bits: should be 4 to 8, or 'none', not 'eight'"),
        ({"bits": True}, f"{PLACE}.bits: should be 4 to 8, or 'none', not True"),
        ({"softmax": 12}, f"{PLACE}.softmax: should be 4 to 8, or 'none', not 12"),
        ({"attention": 2}, f"{PLACE}.attention: should be 4 to 8, or 'none', not 2"),
        ({"linear": 9}, f"{PLACE}.linear: should be 4 to 8, or 'none', not 9"),
        ({"linear": 7.5}, f"{PLACE}.linear: unknown key"),
        ({"by": "typ"}, f"{PLACE}.by: should be 'type', 'name' or 'regex', not \"typ\""),
        ({"bit": 8}, "no layer has the type 'bit'; did you mean 'bits'?"),
        ({"lineal": 8}, "no layer has the type 'lineal'; did you mean 'linear'?"),
        ({"by": "name", "tails": 8}, "no layer is named 'tails'; did you mean 'tail'?"),
        (
            {"by": "regex", "attn(": 8},
            "'attn(' is no regular expression: missing ), unterminated subpattern at position 4",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_changes(table: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        step(**table).check(one_of_each(), PassContext())
    assert str(caught.value) == message


def test_attention_whose_operands_cannot_be_told_apart_is_refused() -> None:
    def weighed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(torch.einsum("bid,bjd,bjd->bij", q, k, k), -1) @ v

    graph = q2.trace(Attend(weighed), {name: torch.randn(1, 5, 4) for name in "qkv"})
    with pytest.raises(TraceError) as caught:
        step().check(graph, PassContext())
    assert str(caught.value) == "attention at '': cannot tell the two operands of its einsum apart"
    assert not step(attention=False).plan(graph).attention


def test_bits_given_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigError) as caught:
        q2.run_passes(one_of_each(), [QuantizeActivations(bits=3)])
    assert str(caught.value) == "passes.quantize-activations: bits: should be 4 to 8, or 'none', not 3"
