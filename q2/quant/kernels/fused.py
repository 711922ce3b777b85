"""Packed weights on a GPU: kernels that decode codes, or decode and multiply at once, with nothing in between.

The decoded values are the very ones of the plain path (`PackedPart.decode`), which serves where there is no Triton.
Products are summed in float32, in another order than torch's.
"""

import functools
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["NAMES", "Fill", "Kind", "Tile", "decode", "is_on", "linear", "prepare", "tile_for"]

Kind = Literal["", "levels", "codebook"]
"""What a code stands for: a level (``scale``, ``zero`` of a channel), an entry of a ``codebook``, something else."""

NAMES: dict[Kind, tuple[str, str]] = {"levels": ("scale", "zero"), "codebook": ("codebook", "codebook")}
"""The parameters of each kind, as kernels take them: a codebook stands for the second as well, which is not read."""
Fill = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""Decodes packed codes with the two parameters into a tensor, the last argument."""


class Tile(NamedTuple):
    """What one program of a product's kernel works on, and with what; `rows` is 1 for the kernel of sums."""

    rows: int
    channels: int
    inputs: int
    warps: int = 4
    stages: int = 3


# Measured with `python -m benchmarks.packed_gpu` on an H100: up to where multiplying codes is faster than decoding them
# first and a product of cuBLAS's. The kernel of sums decodes a weight for each row anew.
_ROW, _ROWS = Tile(1, 4, 256), Tile(16, 16, 128)
_MOST_BY_ROW, _MOST_DECODED = 4, 11_000_000  # rows; rows times weights
_MOST_ROWS, _WIDEST = 16, 1536  # rows; inputs of a row, which one program goes through in turn
_GROUPS = 256  # of eight codes, that one program of the decoding kernel fills
_WARPS = 4


def is_on(device: torch.device) -> bool:
    """Return whether the kernels can run on a device: it is CUDA's, there is Triton, and nothing is being compiled."""
    return device.type == "cuda" and _is_there() and not torch.compiler.is_compiling()


@functools.cache
def _is_there() -> bool:
    return torch.cuda.is_available() and importlib.util.find_spec("triton") is not None


def decode(kind: Kind, packed: Tensor, parameters: Mapping[str, Tensor], bits: int, out: Tensor) -> None:
    """Fill `out` (C, ...), contiguous, with what codes of `bits` bits, `packed` in uint8 (bytes,), stand for."""
    first, zero = (parameters[name] for name in NAMES[kind])
    prepare(kind, packed, first, zero, bits=bits, dtype=out.dtype)(packed, first, zero, out)


def prepare(kind: Kind, packed: Tensor, first: Tensor, zero: Tensor, *, bits: int, dtype: torch.dtype) -> Fill:
    """Return what decodes these codes and parameters, called as `NAMES` says, time and again; it keeps none of them.

    It is called with them and with the tensor to fill, (C, ...) of `dtype`, contiguous and always of the same shape.
    """
    from q2.quant.kernels.triton_decode import decode_codes

    pointers, device = packed.data_ptr() | first.data_ptr() | zero.data_ptr(), packed.device
    limit, words, shared = torch.finfo(dtype).max, not packed.data_ptr() & 3, first.ndim == 1
    run: Callable[..., None] | None = None  # the compiled kernel, once it is there
    constants: tuple[Any, ...] = ()
    numbers: tuple[Any, ...] = ()

    def fill(packed: Tensor, first: Tensor, zero: Tensor, out: Tensor) -> None:
        nonlocal run, constants, numbers
        if run is not None and not out.data_ptr() & 15 and device.index == torch.cuda.current_device():
            run(packed, first, zero, out, *numbers, *constants)
            return
        count = out.numel()
        width = count // out.shape[0]
        aligned = words and not count & 7
        constants = (kind == "levels", shared, bits, aligned, not width & 7, count >= 1 << 31, _GROUPS)
        numbers = (count, width, packed.numel(), limit)
        grid, values = (-(-count // (8 * _GROUPS)), 1, 1), (packed, first, zero, out, *numbers)
        found = _launch(decode_codes, grid, values, constants, warps=_WARPS, stages=3)
        if found is not None and not (pointers | out.data_ptr()) & 15:
            run = found[grid]

    return fill


def tile_for(rows: int, channels: int, width: int, dtype: torch.dtype) -> Tile | None:
    """Return the tile with which `rows` rows of `dtype` are multiplied by a weight; None where to decode it first.

    >>> tile_for(2, 1152, 1152, torch.float16).rows, tile_for(1024, 1152, 1152, torch.float16)
    (1, None)
    """
    if rows == 1 or (rows <= _MOST_BY_ROW and rows * channels * width <= _MOST_DECODED):
        return _ROW
    return _ROWS if rows <= _MOST_ROWS and width <= _WIDEST and dtype.itemsize == 2 else None


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
    first, zero = (parameters[name] for name in NAMES[kind])
    width, dtype, pointer = x.shape[-1], x.dtype, packed.data_ptr()
    rows = x.numel() // width
    out = x.new_empty((*x.shape[:-1], channels))
    added = out if bias is None else bias
    aligned = not (pointer | x.data_ptr() | first.data_ptr() | zero.data_ptr() | out.data_ptr() | added.data_ptr()) & 15
    kernel = multiply_row if tile.rows == 1 else multiply_rows
    grid = (-(-channels // tile.channels), -(-rows // tile.rows), 1)
    values = (x, packed, first, zero, added, out, rows, width, channels, torch.finfo(dtype).max)
    constants = (levels, first.ndim == 1, bits, not pointer & 3, bias is not None, *tile[:3])
    key = (constants, tile, width, channels, dtype, first.dtype, zero.dtype, x.device.index)
    here = x.is_cuda and x.device.index == torch.cuda.current_device()
    found = _compiled.get(key) if aligned and here else None
    if found is not None:
        found[grid](*values, *constants)
        return out
    found = _launch(kernel, grid, values, constants, warps=tile.warps, stages=tile.stages)
    if aligned and found is not None:
        _compiled[key] = found
    return out


# Triton looks at every argument at each call, which takes longer than many a kernel: kernels are kept by what it would
# find, which is only known where all pointers are aligned.
_compiled: dict[tuple[Any, ...], Any] = {}


def _launch(
    kernel: Any, grid: tuple[int, int, int], values: tuple[Any, ...], constants: tuple[Any, ...], **options: int
) -> Any:
    """Run a kernel on the device of its tensors and return it, compiled; None from the interpreter."""
    device = values[0].device
    named = {"num_warps": options["warps"], "num_stages": options["stages"], "enable_fp_fusion": True}
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return kernel[grid](*values, *constants, **named)
    with torch.cuda.device(device):
        return kernel[grid](*values, *constants, **named)
