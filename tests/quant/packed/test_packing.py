"""Codes are packed without loss at every width, in the documented order of bits, on every path."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from q2.quant.packed.packing import pack, packed_bytes, unpack

WIDTHS = range(1, 9)


@st.composite
def codes(draw: st.DrawFn) -> tuple[Tensor, int]:
    bits = draw(st.integers(1, 8))
    values = draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))
    return torch.tensor(values, dtype=torch.uint8), bits


@settings(deadline=None, max_examples=200)
@given(codes())
def test_what_is_packed_comes_back_in_as_few_bytes_as_there_can_be(given: tuple[Tensor, int]) -> None:
    values, bits = given
    packed = pack(values, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_bytes(len(values), bits) == -(-len(values) * bits // 8)
    assert torch.equal(unpack(packed, bits, len(values)), values)


@settings(deadline=None, max_examples=100)
@given(codes())
def test_the_stream_of_bits_is_little_endian(given: tuple[Tensor, int]) -> None:
    values, bits = given
    number = sum(code << (i * bits) for i, code in enumerate(values.tolist()))
    assert bytes(pack(values, bits).tolist()) == number.to_bytes(packed_bytes(len(values), bits), "little")


@pytest.mark.parametrize("bits", WIDTHS)
def test_torch_unpacks_as_the_compiled_kernel_does(bits: int) -> None:
    values = torch.randint(0, 2**bits, (1001,), dtype=torch.uint8)
    packed = pack(values, bits)
    compiled = torch.compile(lambda each: unpack(each, bits, 1001), backend="eager", fullgraph=True)
    assert torch.equal(compiled(packed), values)


@pytest.mark.gpu
@pytest.mark.parametrize("bits", WIDTHS)
def test_a_gpu_packs_the_same_bytes(bits: int) -> None:
    values = torch.randint(0, 2**bits, (1001,), dtype=torch.uint8)
    packed = pack(values.cuda(), bits)
    assert torch.equal(packed.cpu(), pack(values, bits))
    assert torch.equal(unpack(packed, bits, 1001).cpu(), values)


@pytest.mark.parametrize("bits", WIDTHS)
def test_eight_codes_from_anywhere_start_a_byte(bits: int) -> None:
    values = torch.randint(0, 2**bits, (64,), dtype=torch.uint8)
    assert torch.equal(unpack(pack(values, bits)[3 * bits :], bits, 40), values[24:])
