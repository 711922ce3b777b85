"""Packed weights decoded on a GPU in one pass: a kernel reads codes and writes values, with nothing in between.

It gives the very values of the plain path (`PackedPart.decode`), which serves where there is no Triton.
"""

import functools
import importlib.util
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Kind", "decode", "is_there"]

Kind = Literal["", "levels", "codebook"]
"""What a code stands for: a level (``scale``, ``zero`` of a channel), an entry of a ``codebook``, something else."""
_BLOCK = 1024


@functools.cache
def is_there() -> bool:
    """Say whether the kernel can run: there are CUDA and Triton."""
    return torch.cuda.is_available() and importlib.util.find_spec("triton") is not None


def decode(kind: Kind, packed: Tensor, parameters: Mapping[str, Tensor], bits: int, out: Tensor) -> None:
    """Fill `out` (C, ...), contiguous, with what codes of `bits` bits, `packed` in uint8 (bytes,), stand for."""
    from q2.quant.kernels.triton_decode import decode_codes

    levels = kind == "levels"
    first = parameters["scale" if levels else "codebook"]
    decode_codes[(-(-out.numel() // _BLOCK),)](
        packed,
        first,
        parameters["zero"] if levels else first,
        out,
        out.numel(),
        out[0].numel(),
        torch.finfo(out.dtype).max,
        LEVELS=levels,
        SHARED=first.ndim == 1,
        BITS=bits,
        BLOCK=_BLOCK,
    )
