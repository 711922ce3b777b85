"""The kernels compile for GPUs; neither a GPU nor the interpreter is needed to see that, nor does either show it."""

from pathlib import Path
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from q2.quant.kernels import triton_decode

NUMBERS = {"count": "i32", "size": "i32", "rows": "i32", "width": "i32", "channels": "i32", "limit": "fp32"}
DECODING = {"WORDS": True, "WHOLE": True, "LONG": False, "GROUPS": 64}
BY_ROW = {"WORDS": True, "BIASED": True, "ROWS": 1, "CHANNELS": 8, "INPUTS": 128}
BY_ROWS = {"WORDS": True, "BIASED": False, "ROWS": 16, "CHANNELS": 32, "INPUTS": 64}


def assembled(kernel: Any, values: str, parameters: str, arch: int, **constants: Any) -> str:
    """Return the PTX of a kernel for a GPU of compute capability `arch` / 10."""
    types = {"packed": "*u8", "first": f"*{parameters}", "zero": "*i16" if constants["LEVELS"] else f"*{parameters}"}
    types |= NUMBERS | dict.fromkeys(("x", "bias", "out"), f"*{values}") | dict.fromkeys(constants, "constexpr")
    signature = {name: types[name] for name in kernel.arg_names}
    given = {(place,): constants[name] for place, name in enumerate(signature) if name in constants}
    source, target = ASTSource(kernel, signature, given), GPUTarget("cuda", arch, 32)
    compiled = triton.compile(source, target=target, options={"enable_fp_fusion": True})
    assert compiled.asm["cubin"]
    return str(compiled.asm["ptx"])


@pytest.mark.parametrize("arch", [80, 90])
def test_every_kernel_compiles(arch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    levels, books, shared = (
        {"LEVELS": True, "SHARED": True},
        {"LEVELS": False, "SHARED": False},
        {"LEVELS": False, "SHARED": True},
    )
    decode, row, rows = (triton_decode.decode_codes, triton_decode.multiply_row, triton_decode.multiply_rows)
    assembled(decode, "fp16", "fp16", arch, BITS=4, **levels, **DECODING)
    assembled(decode, "bf16", "fp32", arch, BITS=3, **books, **{**DECODING, "WHOLE": False, "LONG": True})
    assembled(decode, "fp32", "bf16", arch, BITS=7, **shared, **{**DECODING, "WORDS": False})
    for kernel, constants in ((row, BY_ROW), (rows, BY_ROWS)):
        assembled(kernel, "bf16", "fp16", arch, BITS=3, **levels, **constants)
        assembled(kernel, "fp32", "fp32", arch, BITS=2, **shared, **constants)
    assert "mma" in assembled(rows, "fp16", "fp16", arch, BITS=4, **books, **BY_ROWS)
