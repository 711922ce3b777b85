"""Packed codes decoded on a CPU: 16 at a time are unpacked and looked up, in registers up to 4 bits."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba import types
from torch import Tensor

from q2.quant.dtypes import cast_to
from q2.quant.kernels.chunks import in_threads
from q2.quant.kernels.compiled import compiled
from q2.quant.kernels.fused import NAMES, Fill, Kind
from q2.quant.kernels.vector import Lanes, Vector, intrinsic, load

__all__ = ["decode", "prepare"]

_LANES = 16
_IN_REGISTERS = 4  # bits of which all levels fit in a vector
_ALONE = 1 << 20  # codes that are decoded faster than threads are woken
_LARGEST = float(np.finfo(np.float32).max)
_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


def decode(kind: Kind, packed: Tensor, parameters: Mapping[str, Tensor], bits: int, out: Tensor) -> None:
    """Run `q2.quant.kernels.fused.decode` on a CPU: fill `out` (C, ...) from codes `packed`, uint8 (bytes,)."""
    first, zero = (parameters[name] for name in NAMES[kind])
    prepare(kind, bits, out.dtype)(packed, first, zero, out)


def prepare(kind: Kind, bits: int, dtype: torch.dtype) -> Fill:
    """Return what `q2.quant.kernels.fused.prepare` returns, for a CPU."""
    pattern = torch.int16 if dtype.itemsize == 2 else torch.int32  # bits are copied, whatever they mean

    def fill(packed: Tensor, first: Tensor, zero: Tensor, out: Tensor) -> None:
        if kind == "levels":
            books = torch.empty(len(first), 2**bits)
            _levels(first.float().numpy(), zero.numpy(), _LARGEST, books.numpy())
        else:
            books = first if first.ndim > 1 else first[None]
        if books.dtype != dtype:
            books = books.float() if dtype == torch.float32 else cast_to(books, dtype)
        entries, codes, count = books.contiguous().view(pattern).numpy(), packed.numpy(), out.shape[0]
        rows = out.view(pattern).numpy().reshape(count, -1)
        if rows.size <= _ALONE or torch.get_num_threads() == 1:
            _decode(codes, bits, entries, rows, 0, count)
            return
        step = -(-count // torch.get_num_threads())
        parts = [slice(start, min(start + step, count)) for start in range(0, count, step)]
        in_threads(parts, lambda part: _decode(codes, bits, entries, rows, part.start, part.stop))

    return fill


@compiled
def _levels(scale: npt.NDArray[np.float32], zero: npt.NDArray[Any], limit: float, out: npt.NDArray[np.float32]) -> None:
    most = np.float32(limit)
    for row in range(out.shape[0]):
        factor, offset = scale[row], np.float32(zero[row])
        for code in range(out.shape[1]):
            out[row, code] = min(max((np.float32(code) - offset) * factor, -most), most)


@intrinsic
def _unpacked(_: Any, packed: Any, start: Any, bits: Any) -> Any:
    """Return 16 codes of `bits` bits, at most 4, from the bit `start` on; 8 + `bits` bytes from there on are read."""
    kind = Vector(types.int32, _LANES)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(packed)(context, builder, args[0]).data
        lanes = context.get_value_type(kind)
        byte, shift = (builder.lshr(args[1], ir.Constant(_INT64, 3)), builder.and_(args[1], ir.Constant(_INT64, 7)))
        pair = ir.Constant(ir.VectorType(_INT32, 2), ir.Undefined)
        for half, at in enumerate((byte, builder.add(byte, args[2]))):  # eight codes take `bits` bytes
            word = builder.load(builder.bitcast(builder.gep(data, [at]), _INT64.as_pointer()), align=1)
            eight = builder.trunc(builder.lshr(word, shift), _INT32)
            pair = builder.insert_element(pair, eight, ir.Constant(_INT32, half))
        words = builder.shuffle_vector(pair, pair, ir.Constant(lanes, [0] * 8 + [1] * 8))
        one = ir.Constant(lanes, ir.Undefined)
        one = builder.insert_element(one, builder.trunc(args[2], _INT32), ir.Constant(_INT32, 0))
        width = builder.shuffle_vector(one, one, ir.Constant(lanes, [0] * _LANES))
        moved = builder.lshr(words, builder.mul(width, ir.Constant(lanes, [*range(8), *range(8)])))
        ones = ir.Constant(lanes, [1] * _LANES)
        return builder.and_(moved, builder.sub(builder.shl(ones, width), ones))

    return kind(packed, start, bits), build


@intrinsic
def _looked_up(_: Any, table: Any, codes: Any) -> Any:
    """Return ``table[code]`` for each lane of `codes`, below 16: one instruction where the processor has it."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = args[0].type
        inside = builder.and_(args[1], ir.Constant(lanes, [_LANES - 1] * _LANES))
        found = ir.Constant(lanes, ir.Undefined)
        for lane in range(_LANES):
            place = ir.Constant(_INT32, lane)
            entry = builder.extract_element(args[0], builder.extract_element(inside, place))
            found = builder.insert_element(found, entry, place)
        return found

    return table(table, codes), build


@intrinsic
def _stored(_: Any, array: Any, index: Any, value: Any) -> Any:
    """Write the low bits of 16 lanes to ``array[index:]``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        width = array.dtype.bitwidth
        narrow = ir.VectorType(ir.IntType(width), _LANES)
        lanes = args[2] if width == 32 else builder.trunc(args[2], narrow)
        data = context.make_array(array)(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), narrow.as_pointer())
        builder.store(lanes, pointer, align=width // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@compiled
def _book(entries: npt.NDArray[Any], row: int, room: npt.NDArray[np.int32]) -> Lanes:
    own = entries[min(row, entries.shape[0] - 1)]
    for code in range(len(own)):
        room[code] = own[code]
    return load(room, 0)


@compiled
def _decode(  # noqa: PLR0917 (numba has no keyword-only arguments)
    packed: npt.NDArray[np.uint8], bits: int, entries: npt.NDArray[Any], out: npt.NDArray[Any], first: int, last: int
) -> None:
    """Fill the rows `first` to `last` of `out` (C, n) with `entries` (C or 1, 2^bits)."""
    room = np.zeros(_LANES, np.int32)
    width, mask = out.shape[1], (1 << bits) - 1
    safe = 8 * (len(packed) - 8 - bits)  # the last bit from which whole words are read
    for row in range(first, last):
        result, begin = out[row], row * width * bits
        own = entries[min(row, entries.shape[0] - 1)]
        place = 0
        if bits <= _IN_REGISTERS and width >= _LANES:
            table = _book(entries, row, room)
            while place < width:
                place = min(place, width - _LANES)  # the last 16 may be written twice
                if begin + place * bits > safe:
                    break
                _stored(result, place, _looked_up(table, _unpacked(packed, begin + place * bits, bits)))
                place += _LANES
        while place < width:
            start = begin + place * bits
            word = np.int64(packed[start >> 3])
            if (start & 7) + bits > 8:
                word |= np.int64(packed[(start >> 3) + 1]) << 8
            result[place] = own[(word >> (start & 7)) & mask]
            place += 1
