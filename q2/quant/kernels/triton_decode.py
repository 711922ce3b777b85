"""The Triton kernels of `q2.quant.kernels.fused`. Importing them needs Triton, which CUDA builds of torch bring along.

All read codes in groups of eight, which take BITS whole bytes (see `q2.quant.packed.packing`): a group's bytes are
loaded once, as one word where they are one, and shifted. CHANNEL is the channel of each group or code, WIDTH the number
of codes of a channel.
"""

from typing import Any

import triton
import triton.language as tl

__all__ = ["decode_codes", "multiply_row", "multiply_rows"]


def _words_of(  # noqa: PLR0917 (Triton's kernels take their arguments in order)
    packed: tl.tensor,
    group: tl.tensor,
    inside: tl.tensor,
    size: tl.tensor,
    BITS: tl.constexpr,  # noqa: N803 (constants of the compiler)
    WORDS: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """Return the bytes of each `group` as a number; 0 outside. `size` is how many bytes there are.

    WORDS: groups of 2 and 4 bits are read as one word, which needs an aligned pointer and no group cut short.
    """
    if WORDS and BITS == 4:
        word = tl.load(packed.to(tl.pointer_type(tl.int32)) + group, mask=inside, other=0)
    elif WORDS and BITS == 2:
        word = tl.load(packed.to(tl.pointer_type(tl.int16)) + group, mask=inside, other=0).to(tl.int32)
    else:
        word = tl.load(packed + group * BITS, mask=inside, other=0).to(tl.int64 if BITS > 4 else tl.int32)
        for place in tl.static_range(1, BITS):
            at = group * BITS + place
            byte = tl.load(packed + at, mask=inside & (at < size), other=0)
            word |= byte.to(word.dtype) << (8 * place)
    return word


_words: Any = triton.jit(_words_of)


def _codes_of(
    word: tl.tensor,
    BITS: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """Return the codes (..., 8), int32, of words."""
    lanes = tl.arange(0, 8) * BITS
    lanes = lanes[None, :] if len(word.shape) == 1 else lanes[None, None, :]
    return (tl.expand_dims(word, len(word.shape)) >> lanes.to(word.dtype)).to(tl.int32) & ((1 << BITS) - 1)


_codes: Any = triton.jit(_codes_of)


def _values_of(  # noqa: PLR0917
    codes: tl.tensor,
    first: tl.tensor,
    zero: tl.tensor,
    channel: tl.tensor,
    inside: tl.tensor,
    limit: tl.tensor,
    LEVELS: tl.constexpr,  # noqa: N803
    SHARED: tl.constexpr,  # noqa: N803
    BITS: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """Return the values, float32, of codes whose `channel` and `inside` broadcast to them."""
    if LEVELS:
        scale = tl.load(first + channel, mask=inside, other=1).to(tl.float32)
        offset = tl.load(zero + channel, mask=inside, other=0).to(tl.float32)
        value = (codes.to(tl.float32) - offset) * scale
    else:
        entry = codes if SHARED else channel * (1 << BITS) + codes
        value = tl.load(first + entry, mask=inside, other=0).to(tl.float32)
    return tl.minimum(tl.maximum(value, -limit), limit)


_values: Any = triton.jit(_values_of)


def _decode_codes(  # noqa: PLR0917
    packed: tl.tensor,
    first: tl.tensor,
    zero: tl.tensor,
    out: tl.tensor,
    count: tl.tensor,
    width: tl.tensor,
    size: tl.tensor,
    limit: tl.tensor,
    LEVELS: tl.constexpr,  # noqa: N803
    SHARED: tl.constexpr,  # noqa: N803
    BITS: tl.constexpr,  # noqa: N803
    WORDS: tl.constexpr,  # noqa: N803
    WHOLE: tl.constexpr,  # noqa: N803
    LONG: tl.constexpr,  # noqa: N803
    GROUPS: tl.constexpr,  # noqa: N803
) -> None:
    """Fill `out` with the value of each of `count` codes, `width` a channel, in `size` bytes.

    WHOLE: a channel has whole groups. LONG: places need 64 bits.
    """
    number = tl.program_id(0)
    if LONG:
        number = number.to(tl.int64)
    group = number * GROUPS + tl.arange(0, GROUPS)
    codes = _codes(_words(packed, group, group * 8 < count, size, BITS, WORDS), BITS)
    place = group[:, None] * 8 + tl.arange(0, 8)[None, :]
    inside = place < count
    if WHOLE:
        channel = (group // (width // 8))[:, None]
        value = _values(codes, first, zero, channel, (group * 8 < count)[:, None], limit, LEVELS, SHARED, BITS)
    else:
        value = _values(codes, first, zero, place // width, inside, limit, LEVELS, SHARED, BITS)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


decode_codes: Any = triton.jit(_decode_codes)


def _multiply_row(  # noqa: PLR0917
    x: tl.tensor,
    packed: tl.tensor,
    first: tl.tensor,
    zero: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    width: tl.tensor,
    channels: tl.tensor,
    limit: tl.tensor,
    LEVELS: tl.constexpr,  # noqa: N803
    SHARED: tl.constexpr,  # noqa: N803
    BITS: tl.constexpr,  # noqa: N803
    WORDS: tl.constexpr,  # noqa: N803
    BIASED: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    CHANNELS: tl.constexpr,  # noqa: N803
    INPUTS: tl.constexpr,  # noqa: N803
) -> None:
    """Multiply one row of `x` at a time by CHANNELS channels: sums without tensor cores, for very few rows."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    row = tl.program_id(1)
    there = channel < channels
    sums = tl.zeros((CHANNELS, INPUTS), tl.float32)
    begin, group = channel[:, None] * (width // 8), tl.arange(0, INPUTS // 8)
    inside = there[:, None] & (group * 8 < width)[None, :]
    word = _words(packed, begin + group[None, :], inside, 0x7FFFFFFF, BITS, WORDS)
    for start in range(0, width, INPUTS):
        place = start + tl.arange(0, INPUTS)
        values = tl.load(x + row * width + place, mask=place < width, other=0).to(tl.float32)
        codes = _codes(word, BITS)
        group += INPUTS // 8
        inside = there[:, None] & (group * 8 < width)[None, :]
        word = _words(packed, begin + group[None, :], inside, 0x7FFFFFFF, BITS, WORDS)  # of the next turn
        weight = _values(
            codes, first, zero, channel[:, None, None], there[:, None, None], limit, LEVELS, SHARED, BITS
        ).to(out.dtype.element_ty)
        sums += tl.reshape(weight, (CHANNELS, INPUTS)).to(tl.float32) * values[None, :]
    total = tl.sum(sums, 1)
    if BIASED:
        total += tl.load(bias + channel, mask=there, other=0).to(tl.float32)
    tl.store(out + row * channels + channel, total.to(out.dtype.element_ty), mask=there)


multiply_row: Any = triton.jit(_multiply_row, do_not_specialize=["rows"])


def _multiply_rows(  # noqa: PLR0917
    x: tl.tensor,
    packed: tl.tensor,
    first: tl.tensor,
    zero: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    width: tl.tensor,
    channels: tl.tensor,
    limit: tl.tensor,
    LEVELS: tl.constexpr,  # noqa: N803
    SHARED: tl.constexpr,  # noqa: N803
    BITS: tl.constexpr,  # noqa: N803
    WORDS: tl.constexpr,  # noqa: N803
    BIASED: tl.constexpr,  # noqa: N803
    ROWS: tl.constexpr,  # noqa: N803
    CHANNELS: tl.constexpr,  # noqa: N803
    INPUTS: tl.constexpr,  # noqa: N803
) -> None:
    """Multiply ROWS rows of `x` by CHANNELS channels on tensor cores, INPUTS inputs at a time."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    there = channel < channels
    sums = tl.zeros((ROWS, CHANNELS), tl.float32)
    begin, group = channel[:, None] * (width // 8), tl.arange(0, INPUTS // 8)
    inside = there[:, None] & (group * 8 < width)[None, :]
    word = _words(packed, begin + group[None, :], inside, 0x7FFFFFFF, BITS, WORDS)
    for start in range(0, width, INPUTS):
        place = start + tl.arange(0, INPUTS)
        used = (row < rows)[:, None] & (place < width)[None, :]
        values = tl.load(x + row[:, None] * width + place[None, :], mask=used, other=0)
        codes = _codes(word, BITS)
        group += INPUTS // 8
        inside = there[:, None] & (group * 8 < width)[None, :]
        word = _words(packed, begin + group[None, :], inside, 0x7FFFFFFF, BITS, WORDS)  # of the next turn
        weight = _values(
            codes, first, zero, channel[:, None, None], there[:, None, None], limit, LEVELS, SHARED, BITS
        ).to(out.dtype.element_ty)
        matrix = tl.trans(tl.reshape(weight, (CHANNELS, INPUTS)))
        sums = tl.dot(values, matrix, sums, input_precision="ieee")
    if BIASED:
        sums += tl.load(bias + channel, mask=there, other=0).to(tl.float32)[None, :]
    here = (row < rows)[:, None] & there[None, :]
    tl.store(out + row[:, None] * channels + channel[None, :], sums.to(out.dtype.element_ty), mask=here)


multiply_rows: Any = triton.jit(_multiply_rows, do_not_specialize=["rows"])
