"""Packed weights on a GPU: kernels that decode codes, or decode and multiply at once, with nothing in between.

The decoded values are the very ones of the plain path (`PackedPart.decode`), which serves where there is no Triton.
Products are summed in float32, in another order than torch's.
"""

import functools
import importlib.util
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Kind", "Tile", "decode", "is_on", "linear", "tile_for"]

Kind = Literal["", "levels", "codebook"]
"""What a code stands for: a level (``scale``, ``zero`` of a channel), an entry of a ``codebook``, something else."""


class Tile(NamedTuple):
    """What one program of a product's kernel works on, and with what; `rows` is 1 for the kernel of sums."""

    rows: int
    channels: int
    inputs: int
    warps: int = 4
    stages: int = 3


# Up to how many rows of inputs which tile is used: see `python -m benchmarks.packed_gpu`. Above the last of them, and
# above `_ROWS_FLOAT32` rows of float32, decoding once and a product of cuBLAS's are faster.
_TILES: tuple[tuple[int, Tile], ...] = (
    (2, Tile(1, 8, 256)),
    (16, Tile(16, 32, 128)),
    (128, Tile(64, 64, 64)),
)
_ROWS_FLOAT32 = 16
_GROUPS = 256  # of eight codes, that one program of the decoding kernel fills
_WARPS = 4


def is_on(device: torch.device) -> bool:
    """Say whether the kernels can run on a device: it is CUDA's, there is Triton, and nothing is being compiled."""
    return device.type == "cuda" and _is_there() and not torch.compiler.is_compiling()


@functools.cache
def _is_there() -> bool:
    return torch.cuda.is_available() and importlib.util.find_spec("triton") is not None


def decode(kind: Kind, packed: Tensor, parameters: Mapping[str, Tensor], bits: int, out: Tensor) -> None:
    """Fill `out` (C, ...), contiguous, with what codes of `bits` bits, `packed` in uint8 (bytes,), stand for."""
    from q2.quant.kernels.triton_decode import decode_codes

    levels = kind == "levels"
    first = parameters["scale" if levels else "codebook"]
    zero = parameters["zero"] if levels else first
    count, pointer = out.numel(), packed.data_ptr()
    width = count // out.shape[0]
    aligned = not (pointer | first.data_ptr() | zero.data_ptr() | out.data_ptr()) & 15
    _launch(
        decode_codes,
        (-(-count // (8 * _GROUPS)), 1, 1),
        (packed, first, zero, out, count, width, packed.numel(), torch.finfo(out.dtype).max),
        (levels, first.ndim == 1, bits, not pointer & 3 and not count & 7, not width & 7, count >= 1 << 31, _GROUPS),
        options=(_WARPS, 3),
        specialized=(count, width, out.dtype) if aligned else None,
    )


def tile_for(rows: int, dtype: torch.dtype) -> Tile | None:
    """Return the tile with which `rows` rows of `dtype` are multiplied; None where decoding first is faster."""
    if rows > _ROWS_FLOAT32 and dtype == torch.float32:
        return None
    return next((tile for most, tile in _TILES if rows <= most), None)


def linear(
    kind: Kind,
    x: Tensor,
    packed: Tensor,
    parameters: Mapping[str, Tensor],
    *,
    bits: int,
    bias: Tensor | None,
    channels: int,
    tile: Tile,
) -> Tensor:
    """Return ``x @ weight.T + bias`` (..., channels) for contiguous `x` (..., n), n a multiple of 8.

    The weight (channels, n) is what codes of `bits` bits, `packed` in uint8 (bytes,), stand for, in the dtype of `x`,
    which `bias` (channels,) has too. Gradients are not tracked.
    """
    from q2.quant.kernels.triton_decode import multiply_row, multiply_rows

    levels = kind == "levels"
    first = parameters["scale" if levels else "codebook"]
    zero = parameters["zero"] if levels else first
    width, dtype, pointer = x.shape[-1], x.dtype, packed.data_ptr()
    rows = x.numel() // width
    out = x.new_empty((*x.shape[:-1], channels))
    added = out if bias is None else bias
    aligned = not (pointer | x.data_ptr() | first.data_ptr() | zero.data_ptr() | out.data_ptr() | added.data_ptr()) & 15
    _launch(
        multiply_row if tile.rows == 1 else multiply_rows,
        (-(-channels // tile.channels), -(-rows // tile.rows), 1),
        (x, packed, first, zero, added, out, rows, width, channels, torch.finfo(dtype).max),
        (levels, first.ndim == 1, bits, not pointer & 3, bias is not None, tile.rows, tile.channels, tile.inputs),
        options=(tile.warps, tile.stages),
        specialized=(width, channels, dtype) if aligned else None,
    )
    return out


_compiled: dict[tuple[Any, ...], Any] = {}


def _launch(
    kernel: Any,
    grid: tuple[int, int, int],
    values: tuple[Any, ...],
    constants: tuple[Any, ...],
    *,
    options: tuple[int, int],
    specialized: tuple[Any, ...] | None,
) -> None:
    """Run a kernel on the device of its tensors; `options` are warps and stages.

    Triton looks at every argument at each call, which takes longer than many a kernel. `specialized` is what it would
    find besides the dtypes of parameters, `constants` and `options`, where all pointers are aligned: then the compiled
    kernel is looked up by it.
    """
    device = values[0].device
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            return _launch(kernel, grid, values, constants, options=options, specialized=specialized)
    key = (kernel, specialized, constants, options, values[1].dtype, values[2].dtype, values[3].dtype, device.index)
    found = _compiled.get(key) if specialized else None
    if found is not None:
        found[grid](*values, *constants)
        return None
    warps, stages = options
    found = kernel[grid](*values, *constants, num_warps=warps, num_stages=stages, enable_fp_fusion=True)
    if specialized and found is not None:
        _compiled[key] = found
    return None
