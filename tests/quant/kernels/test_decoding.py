"""The compiled decoding gives what unpacking and the quantizer's own decoding give, bit by bit."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from q2.quant import builtin_quantizer, fit
from q2.quant.dtypes import cast_to
from q2.quant.kernels import decoding
from q2.quant.packed.packing import pack, unpack

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def decoded(codes: Tensor, name: str, parameters: dict[str, Tensor], bits: int, dtype: torch.dtype) -> Tensor:
    out = torch.full(codes.shape, 7.0, dtype=dtype)
    decoding.decode(builtin_quantizer(name).code, pack(codes, bits), parameters, bits, out)
    return out


def plain(codes: Tensor, name: str, parameters: dict[str, Tensor], bits: int, dtype: torch.dtype) -> Tensor:
    again = unpack(pack(codes, bits), bits, codes.numel()).reshape(codes.shape)
    return cast_to(builtin_quantizer(name).decode_at(again, parameters, bits), dtype)


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(decoding, "_ALONE", 0)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 70)),
    st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES[:2])),
    st.integers(0, 1 << 30),
)
@pytest.mark.parametrize("name", ["uaq", "kmeans-c", "kmeans-a"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 7, 8])
def test_codes_of_any_shape_are_decoded_the_same(
    name: str, bits: int, shape: tuple[int, int], dtypes: tuple[torch.dtype, torch.dtype], seed: int
) -> None:
    (rows, _), (dtype, stored) = shape, dtypes
    torch.manual_seed(seed)
    codes = torch.randint(0, 2**bits, shape, dtype=torch.uint8)
    if name == "uaq":
        zero = torch.randint(-300, 300, (rows,), dtype=torch.int16)
        parameters = {"scale": torch.rand(rows).to(stored), "zero": zero}
    else:
        parameters = {"codebook": torch.randn(*((rows,) if name == "kmeans-c" else ()), 2**bits).to(stored)}
    assert torch.equal(decoded(codes, name, parameters, bits, dtype), plain(codes, name, parameters, bits, dtype))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["uaq-3", "kmeans-c-4", "kmeans-a-2"])
def test_threads_decode_rows_of_their_own(name: str) -> None:
    fitted = fit(torch.randn(7, 3, 3, 3), name)
    given = (fitted.codes(), fitted.quantizer.name, dict(fitted.parameters), fitted.option.bits, torch.float32)
    assert torch.equal(decoded(*given), fitted.dequantize())


def test_values_beyond_float16_are_its_largest() -> None:
    codes = torch.tensor([[0, 1, 2, 3] * 5], dtype=torch.uint8)
    parameters = {"scale": torch.tensor([3e38]), "zero": torch.tensor([1], dtype=torch.int32)}
    most = torch.finfo(torch.float16).max
    assert decoded(codes, "uaq", parameters, 2, torch.float16).tolist() == [[-most, 0, most, most] * 5]
    assert torch.equal(
        decoded(codes, "uaq", parameters, 2, torch.float32), plain(codes, "uaq", parameters, 2, torch.float32)
    )
