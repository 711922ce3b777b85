"""The Triton kernel of `q2.quant.kernels.fused`. Importing it needs Triton, which CUDA builds of torch bring along."""

from typing import Any

import triton
import triton.language as tl

__all__ = ["decode_codes"]


def _decode_codes(  # noqa: PLR0917 (Triton's kernels take their arguments in order)
    packed: Any,
    first: Any,
    zero: Any,
    out: Any,
    count: Any,
    width: Any,
    limit: Any,
    LEVELS: tl.constexpr,  # noqa: N803 (constants of the compiler)
    SHARED: tl.constexpr,  # noqa: N803
    BITS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """Fill `out` with the value of each of `count` codes, `width` a channel; a code may lie in two bytes."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    start = place * BITS
    shift = (start & 7).to(tl.int32)
    byte = packed + (start >> 3)
    low = tl.load(byte, mask=inside, other=0).to(tl.int32)
    high = tl.load(byte + 1, mask=inside & (shift + BITS > 8), other=0).to(tl.int32)
    code = ((low | (high << 8)) >> shift) & ((1 << BITS) - 1)
    row = place // width
    if LEVELS:
        scale = tl.load(first + row, mask=inside, other=1).to(tl.float32)
        offset = tl.load(zero + row, mask=inside, other=0).to(tl.float32)
        value = (code.to(tl.float32) - offset) * scale
    else:
        entry = code if SHARED else row * (1 << BITS) + code
        value = tl.load(first + entry, mask=inside, other=0).to(tl.float32)
    value = tl.minimum(tl.maximum(value, -limit), limit)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


decode_codes: Any = triton.jit(_decode_codes)
