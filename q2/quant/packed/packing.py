"""Codes of 1 to 8 bits, packed: a 3-bit code takes 3 bits.

The codes of a tensor, in row-major order, are one stream of bits, little-endian: code i takes the bits i * b to
i * b + b - 1, its lowest bit first, and bit k of the stream is bit k % 8 (of value 2^(k % 8)) of byte k // 8. Bits that
the last byte has left are zero. Eight codes take b whole bytes, so that every eighth code starts a byte.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from q2.quant.kernels.compiled import compiled

__all__ = ["CODES", "pack", "packed_bytes", "unpack"]

CODES = "codes"
"""What packed codes are called among the tensors of a layer."""

Bytes = npt.NDArray[np.uint8]


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `count` codes of `bits` bits take.

    >>> packed_bytes(5, 3)
    2
    """
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return the bytes, uint8 (ceil(n * bits / 8),), that hold `codes`, uint8 of any shape and below 2^bits.

    >>> pack(torch.tensor([1, 2, 7], dtype=torch.uint8), 3).tolist()
    [209, 1]
    """
    flat = codes.flatten()
    if bits == 8:
        return flat.clone()
    groups = F.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    if flat.device.type == "cpu":
        out = np.empty((len(groups), bits), np.uint8)
        _pack(groups.numpy(), bits, out)
        packed = torch.from_numpy(out)
    else:
        packed = torch.stack([_byte(groups, bits, 8 * place) for place in range(bits)], 1)
    return packed.flatten()[: packed_bytes(len(flat), bits)].clone()


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the first `count` codes, uint8 (count,), that `packed`, uint8 (bytes,), holds.

    >>> unpack(torch.tensor([209, 1], dtype=torch.uint8), 3, 3).tolist()
    [1, 2, 7]
    """
    if bits == 8:
        return packed[:count]
    groups = -(-count // 8)
    if packed.device.type == "cpu" and not torch.compiler.is_compiling():
        out = np.empty((groups, 8), np.uint8)
        _unpack(packed.numpy(), bits, out)
        return torch.from_numpy(out).flatten()[:count]
    whole = F.pad(packed, (0, groups * bits - len(packed))).view(groups, bits)
    codes = torch.stack([_code(whole, bits, bits * place) for place in range(8)], 1)
    return codes.flatten()[:count]


def _byte(groups: Tensor, bits: int, start: int) -> Tensor:
    """Return the byte at bit `start` of every group of eight codes."""
    byte = torch.zeros_like(groups[:, 0])
    for place in range(8):
        shift = place * bits - start
        if -bits < shift < 8:
            code = groups[:, place]
            byte |= code << shift if shift >= 0 else code >> -shift
    return byte


def _code(whole: Tensor, bits: int, start: int) -> Tensor:
    """Return the code at bit `start` of every group of `bits` bytes."""
    place, shift = start // 8, start % 8  # torch.compile may not know these as constants: no divmod
    code = whole[:, place] >> shift
    if shift + bits > 8:
        code = code | (whole[:, place + 1] << (8 - shift))
    return code.bitwise_and(2**bits - 1)


@compiled
def _pack(groups: Bytes, bits: int, out: Bytes) -> None:
    for group in range(len(groups)):
        word = np.uint64(0)
        for place in range(8):
            word |= np.uint64(groups[group, place]) << np.uint64(place * bits)
        for place in range(bits):
            out[group, place] = (word >> np.uint64(8 * place)) & np.uint64(255)


@compiled
def _unpack(packed: Bytes, bits: int, out: Bytes) -> None:
    mask = np.uint64((1 << bits) - 1)
    for group in range(len(out)):
        word, start = np.uint64(0), group * bits
        for place in range(min(bits, len(packed) - start)):
            word |= np.uint64(packed[start + place]) << np.uint64(8 * place)
        for place in range(8):
            out[group, place] = (word >> np.uint64(place * bits)) & mask
