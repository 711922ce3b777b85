"""Activations are rounded as the definition says, token by token; attention is that of torch between quantizers."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from q2.quant import activations
from q2.quant.activations import quantize_activation, quantize_channels, quantized_attention
from tests.quant.strategies import noise

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def by_hand(token: list[float], bits: int, *, floor: bool = False) -> list[float]:
    high, low = max(token), 0.0 if floor else min(token)
    if high == low:
        return token
    delta = (high - low) / (2**bits - 1)
    zero = round(-low / delta)
    return [(min(max(round(x / delta) + zero, 0), 2**bits - 1) - zero) * delta for x in token]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bits: int, softmax: int) -> Tensor:
    q, k, v = (torch.tensor([[by_hand(token, bits) for token in head] for head in x.tolist()]) for x in (q, k, v))
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    return torch.tensor([[by_hand(row, softmax, floor=True) for row in head] for head in weights.tolist()]) @ v


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_tokens_are_rows_last_dimensions_and_channels_of_images(bits: int, dtype: torch.dtype) -> None:
    for shape, tokens in (
        ((3, 8), (3, 8)),
        ((2, 5, 16), (10, 16)),
        ((2, 3, 4, 5), (6, 20)),
        ((2, 3, 2, 2, 4), (6, 16)),
    ):
        x = (noise(*shape) * 3 + 1).to(dtype)
        expected = [by_hand(token, bits) for token in x.view(tokens).tolist()]
        found = quantize_activation(x, bits)
        assert (found.dtype, found.shape) == (dtype, x.shape)
        step = float((x.float().amax() - x.float().amin()) / (2**bits - 1))
        worst = (found.float() - torch.tensor(expected).to(dtype).float().view(shape)).abs().max()
        assert worst <= step * 1e-4


def test_sixteen_bits_are_the_value_itself_and_nothing_stays_nothing() -> None:
    x = noise(2, 3)
    assert quantize_activation(x, 16) is x
    assert quantize_activation(torch.empty(2, 0), 8).shape == (2, 0)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_tokens_are_exact(dtype: torch.dtype, bits: int) -> None:
    limits = torch.finfo(dtype)
    values = [0.0, 1.0, 1 / 3, 1e-3, 7e4 / 3, limits.max, limits.tiny, limits.smallest_normal / 8]
    x = torch.tensor([sign * value for value in values for sign in (1, -1)], dtype=dtype)[:, None].expand(-1, 6)
    assert torch.equal(quantize_activation(x, bits), x)
    image = torch.cat([x, noise(16, 6).to(dtype)]).view(1, 32, 2, 3)
    assert torch.equal(quantize_activation(image, bits)[0, :16].flatten(1), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_floor_fixes_zero_and_keeps_the_largest_value(dtype: torch.dtype) -> None:
    weights = torch.softmax(torch.cat([noise(3, 7), torch.zeros(1, 7)]), -1).to(dtype)
    found = quantize_activation(weights, 8, floor=True)
    assert torch.allclose(found.amax(-1), weights.amax(-1), rtol=torch.finfo(dtype).eps, atol=0)
    levels = found.double() / weights.double().amax(-1, keepdim=True) * 255
    assert torch.allclose(levels, levels.round(), rtol=0, atol=300 * torch.finfo(dtype).eps)
    assert not quantize_activation(torch.zeros(2, 5, dtype=dtype), 8, floor=True).any()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20), st.integers(4, 8))
def test_errors_stay_below_a_step_and_zero_stays_zero(values: list[float], bits: int) -> None:
    x = torch.tensor([[*values, 0.0]])
    found = quantize_activation(x, bits)
    step = float(x.amax() - x.amin()) / (2**bits - 1)
    assert (found - x).abs().max() <= step * (1 + 1e-3) + 1e-37
    assert found[0, -1] == 0
    assert len(found.unique()) <= 2**bits
    assert (found.sort().values == found.gather(1, x.argsort())).all()


def test_the_error_halves_with_every_bit() -> None:
    x = noise(4, 64, 64)
    errors = [float((quantize_activation(x, bits) - x).square().mean().sqrt()) for bits in (4, 5, 6, 7, 8)]
    assert all(1.8 < coarse / fine < 2.2 for coarse, fine in pairwise(errors))


def test_parts_of_the_channels_have_ranges_of_their_own() -> None:
    x = torch.cat([noise(2, 3, 4), 100 * noise(2, 3, 2)], -1)
    found = quantize_channels(x, ((4, 8), (2, 5)), -1, (-1,))
    assert torch.equal(found[..., :4], quantize_activation(x[..., :4], 8))
    assert torch.equal(found[..., 4:], quantize_activation(x[..., 4:], 5))


@pytest.mark.parametrize(("bits", "softmax"), [(8, 8), (6, 8), (4, 4), (5, 6)])
def test_attention_is_quantized_per_head_token_and_per_row(bits: int, softmax: int) -> None:
    q, k, v = noise(3, 5, 8), noise(3, 7, 8) + 1, noise(3, 7, 4)
    expected = plain_attention(q, k, v, bits, softmax)
    assert torch.allclose(quantized_attention(q, k, v, bits=bits, softmax=softmax), expected, atol=1e-5)
    images = quantized_attention(*(x.reshape(1, 3, *x.shape[1:]) for x in (q, k, v)), bits=bits, softmax=softmax)
    assert torch.allclose(images[0], expected, atol=1e-5)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"is_causal": True},
    {"scale": 0.3},
    {"attn_mask": noise(1, 1, 6)},
    {"attn_mask": noise(6, 6) > 0},
    {"attn_mask": torch.zeros(2, 1, 1, 6).masked_fill(torch.arange(6) > 3, -math.inf)},
    {"attn_mask": torch.arange(6)[:, None] > torch.arange(6)},  # the first row sees no key
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_at_sixteen_bits_attention_is_that_of_torch(
    options: dict[str, Any], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = (noise(2, 4, 6, 8, seed=seed).to(dtype) for seed in range(3))
    options = {key: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for key, x in options.items()}
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    for scores in (2**20, 100, 10):  # at once, by heads, by rows
        monkeypatch.setattr(activations, "_MAX_SCORES", scores)
        found = quantized_attention(q, k, v, bits=16, softmax=16, **options)
        assert found.dtype == dtype
        assert torch.allclose(found, expected, atol=4 * torch.finfo(dtype).eps)
        eight = quantized_attention(q, k, v, bits=8, softmax=8, **options)
        assert 0 < float((eight - expected).abs().max()) < 0.05


def test_grouped_queries_share_their_keys() -> None:
    q, k, v = noise(2, 4, 6, 8), noise(2, 2, 6, 8), noise(2, 2, 6, 8)
    found = quantized_attention(q, k, v, enable_gqa=True, bits=16, softmax=16)
    assert torch.allclose(found, F.scaled_dot_product_attention(q, k, v, enable_gqa=True), atol=1e-6)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numel = max(self.numel, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_scores_never_exist_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_MAX_SCORES", 2**13)
    q, k, v = (noise(2, 3, 256, 8, seed=seed) for seed in range(3))
    with Largest() as seen:
        quantized_attention(q, k, v, bits=8, softmax=8)
    assert seen.numel == max(2**13, q.numel())


def test_both_compile_as_one_graph() -> None:
    q, k, v = (noise(1, 2, 6, 8, seed=seed) for seed in range(3))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return quantize_activation(quantized_attention(q, k, v, bits=8, softmax=8), 6)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(q, k, v), run(q, k, v), atol=1e-6)


EXTREMES = st.sampled_from([0.0, 1.0, -1.0, 1e-7, 65504.0, -65504.0, 1e-45, 3.4e38, -3.4e38, 3.3e38, 2.0**-24])


@given(st.lists(EXTREMES, min_size=1, max_size=8), st.integers(4, 8), st.sampled_from(DTYPES), st.booleans())
def test_finite_values_stay_finite_whatever_their_size(
    values: list[float], bits: int, dtype: torch.dtype, floor: bool
) -> None:
    largest = torch.finfo(dtype).max
    x = torch.tensor(values, dtype=torch.float64).clamp(-largest, largest).to(dtype)[None]
    x = x.abs() if floor else x
    made = quantize_activation(x, bits, floor=floor)
    assert made.isfinite().all()
    step = (x.double().max() / (2**bits - 1)) - (0.0 if floor else x.double().min() / (2**bits - 1))
    tolerance = float(step) * 1.01 + 2 * torch.finfo(dtype).eps * float(x.double().abs().max()) + 1e-37
    assert (made.double() - x.double()).abs().max() <= tolerance


def test_the_ends_of_float16_stay_where_they_are() -> None:
    x = torch.tensor([[65504.0, -65504.0, 1.0]]).half()
    assert quantize_activation(x, 8).tolist() == [[65248.0, -65504.0, 0.0]]  # 127 and -128 steps of 513.7, clamped


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_over_the_largest_values_stays_finite(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    q, k = noise(2, 64, 8).to(dtype), noise(2, 64, 8, seed=1).to(dtype)
    v = torch.stack([torch.ones(2, 64), -torch.ones(2, 64), noise(2, 64).sign()], -1).to(dtype) * largest
    found = quantized_attention(q, k, v, bits=8, softmax=8)  # a row of the quantized softmax may add up to more than 1
    assert found.isfinite().all()
    assert torch.allclose(found[..., 0] / largest, torch.ones(2, 64, dtype=dtype), atol=0.2)


def test_what_is_not_finite_stays_visible() -> None:
    token = torch.tensor([[1.0, 2.0, math.inf], [1.0, 2.0, math.nan], [1.0, 2.0, 3.0]]).half()
    assert quantize_activation(token, 8).isfinite().all(1).tolist() == [False, False, True]
