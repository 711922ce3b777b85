"""Quantization of activations while the model runs: a range per token, no calibration, and attention between them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from q2.quant.widths import FULL

__all__ = ["quantize_activation", "quantize_channels", "quantized_attention"]

_MAX_SCORES = 2**24


def quantize_activation(x: Tensor, bits: int, dims: tuple[int, ...] | None = None, *, floor: bool = False) -> Tensor:
    """Return `x` rounded to 2^bits levels between the least and the largest value of every token.

    A token is what lies along `dims`: by default the last dimension, and all from the third on where there are four or
    more (a channel of an image). With delta = (max - min) / (2^bits - 1) and zero = round(-min / delta) a value x
    becomes delta · (clamp(round(x / delta) + zero, 0, 2^bits - 1) - zero), computed in float32 or better. With `floor`
    min is 0, as for the output of a softmax. A constant token is exact. Shape and dtype are kept; finite values stay
    finite: a level beyond the dtype's range becomes its largest value.
    Source: Qua²SeDiMo (AAAI'25), dynamic token-wise activation quantization.

    >>> quantize_activation(torch.tensor([[0.0, 0.2, 1.0], [5.0, 5.0, 5.0]]), 1)
    tensor([[0., 0., 1.],
            [5., 5., 5.]])
    """
    if bits >= FULL or not x.numel():
        return x
    dims = dims or (tuple(range(2, x.dim())) if x.dim() > 3 else (-1,))
    accurate = torch.promote_types(x.dtype, torch.float32)
    high = x.amax(dims, keepdim=True).to(accurate)
    low = torch.zeros_like(high) if floor else x.amin(dims, keepdim=True).to(accurate)
    levels = 2**bits - 1
    width = high - low
    delta = torch.where(width.isinf(), high / levels - low / levels, width / levels)
    # Without a range the step is the value itself, which then lies on level 1 or -1; zeros lie on any grid.
    constant = torch.where(high == 0, 1, high.abs())
    delta = torch.where(delta > 0, delta, constant)
    least = (low / delta).round_()
    codes = (x / delta).round_().clamp_(least, least + levels)
    range_ = torch.finfo(x.dtype)
    return codes.mul_(delta).clamp_(range_.min, range_.max).to(x.dtype)


def quantize_channels(x: Tensor, parts: tuple[tuple[int, int], ...], axis: int, dims: tuple[int, ...]) -> Tensor:
    """Quantize ranges of channels, each (length, bits) along `axis` with ranges of its own: the input of a split layer.

    >>> quantize_channels(torch.tensor([[0.0, 0.4, 1.0, 2.0, 8.0]]), ((3, 1), (2, 16)), -1, (-1,))
    tensor([[0., 0., 1., 2., 8.]])
    """
    pieces = x.split([length for length, _ in parts], axis)
    return torch.cat([quantize_activation(p, bits, dims) for p, (_, bits) in zip(pieces, parts, strict=True)], axis)


def quantized_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    bits: int,
    softmax: int,
) -> Tensor:
    """Compute `scaled_dot_product_attention` from quantized queries, keys, values and softmax.

    Shapes are (..., L, E), (..., S, E) and (..., S, V), after head split, norm and rotary embedding; every head's token
    is quantized to `bits`, every row of the softmax to `softmax` bits with its zero at 0. Scores are computed in
    float32, at most 2^24 of them at a time. Options are those of torch's function.
    """
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    lead = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    query, key, value = (quantize_activation(x, bits, (-1,)).expand(*lead, -1, -1) for x in (query, key, value))
    shape = (*lead, query.shape[-2], key.shape[-2])
    if is_causal:
        attn_mask = torch.ones(shape[-2:], dtype=torch.bool, device=query.device).tril()
    mask = None if attn_mask is None else attn_mask.expand(shape)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    out = value.new_empty((*shape[:-1], value.shape[-1]))
    _attend(out, (query, key, value, mask), scale, dropout_p, softmax)
    return out


def _attend(
    out: Tensor, given: tuple[Tensor, Tensor, Tensor, Tensor | None], scale: float, dropout: float, softmax: int
) -> None:
    """Write attention into `out`: halved over batch, heads and rows until the scores are few enough."""
    query, key, value, mask = given
    split = next((dim for dim in range(out.dim() - 1) if out.shape[dim] > 1), None)
    if split is not None and out[..., 0].numel() * key.shape[-2] > _MAX_SCORES:
        keys = split < out.dim() - 2  # rows have all keys, heads their own
        halves = [x.chunk(2, split) for x in (out, query)]
        others = [x.chunk(2, split) if keys else (x, x) for x in (key, value)]
        masks = (None, None) if mask is None else mask.chunk(2, split)
        for half in range(2):
            inner = (halves[1][half], others[0][half], others[1][half], masks[half])
            _attend(halves[0][half], inner, scale, dropout, softmax)
        return
    scores = (query.float() * scale) @ key.float().transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -math.inf) if mask.dtype == torch.bool else scores.add_(mask)
    weights = F.softmax(scores, -1)
    if mask is not None:
        weights = weights.masked_fill_((scores == -math.inf).all(-1, keepdim=True), 0)  # as torch has it
    weights = quantize_activation(weights, softmax, (-1,), floor=True)
    if dropout:
        weights = F.dropout(weights, dropout)
    range_ = torch.finfo(value.dtype)
    out.copy_((weights.to(value.dtype) @ value).clamp_(range_.min, range_.max))  # a row of weights may exceed 1
