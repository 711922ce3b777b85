"""The quantize-activations pass on attention: queries, keys, values and softmax, fused or written out."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn import functional as F

import q2
from q2.errors import TraceError
from q2.passes import PassContext
from q2.passes.analysis.bops import Bops
from q2.passes.transform import activations
from q2.quant.activations import quantized_attention
from tests.graph.influence import watched
from tests.graph.tiny import FAMILIES
from tests.passes.activations import act, sample, step


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


def test_attention_whose_operands_cannot_be_told_apart_is_refused() -> None:
    def weighed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.softmax(torch.einsum("bid,bjd,bjd->bij", q, k, k), -1) @ v

    graph = q2.trace(Attend(weighed), {name: torch.randn(1, 5, 4) for name in "qkv"})
    with pytest.raises(TraceError) as caught:
        step().check(graph, PassContext())
    assert str(caught.value) == "attention at '': cannot tell the two operands of its einsum apart"
    assert not step(attention=False).plan(graph).attention
