"""The loops over columns choose the same codes compiled, by torch, and by Triton's kernel, here in its interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from q2.quant.calibration import on_device
from q2.quant.calibration.gram import Gram
from q2.quant.calibration.on_device import compensate, descend, normal_block

Found = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def found(device: str, levels: Tensor, size: int) -> Found:
    """Return codes and errors of compensation, codes and W H of descent, and normal equations."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(3, size, generator=generator).to(device)
    rows = torch.randn(2 * size, size, generator=generator) * torch.rand(size, generator=generator)
    gram = Gram.of(rows, 0.5 / size)
    matrix, levels = gram.matrix.to(device), levels.to(device)
    codes, lost = compensate(weight, gram.factor.to(device), levels)
    again, pull = codes.clone(), weight @ matrix
    on = levels.expand(len(weight), -1).gather(1, codes.long())
    descend(pull.sub_(on @ matrix), matrix, levels, again)
    sums = torch.zeros(len(weight), levels.shape[1], levels.shape[1], dtype=torch.float64, device=device)
    normal_block(matrix, codes, sums)
    return tuple(each.cpu() for each in (codes, lost, again, pull, sums))  # type: ignore[return-value]


def cases(size: int) -> list[tuple[Tensor, int]]:
    """Return levels of every channel, and such as all share, with the number of columns."""
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(rows, k, generator=generator).sort(1).values, size) for rows, k in ((3, 8), (1, 4))]


def check(one: Found, other: Found) -> None:
    """Compare what two ways found: codes, and float32 sums up to their rounding."""
    for mine, theirs in zip(one, other, strict=True):
        if mine.dtype == torch.uint8:
            assert torch.equal(mine, theirs)
        else:
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("levels", "size"), cases(140))
def test_torchs_loops_choose_what_the_compiled_ones_do(
    levels: Tensor, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = found("cpu", levels, size)
    monkeypatch.setattr(on_device, "_is_cpu", lambda tensor: False)
    check(compiled, found("cpu", levels, size))


def interpreted() -> int:
    """Compare the compiled loops with the kernel in Triton's interpreter; return how many cases were equal."""
    with pytest.MonkeyPatch.context() as patch:
        compiled = [found("cpu", *case) for case in cases(12)]
        patch.setattr(on_device, "_is_cpu", lambda tensor: False)
        patch.setattr(on_device, "_has_kernel", lambda tensor: True)
        patch.setattr(on_device, "_BLOCK", 8)
        for mine, case in zip(compiled, cases(12), strict=True):
            check(mine, found("cpu", *case))
    return len(compiled)


def test_the_interpreted_kernel_chooses_the_same_codes() -> None:
    code = "from tests.quant.calibration.test_on_device import interpreted; print(interpreted())"
    root = Path(__file__).parents[3]
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env, cwd=root)
    assert run.stdout.strip() == "2", run.stderr


@pytest.mark.gpu
@pytest.mark.parametrize(("levels", "size"), cases(300))
def test_a_gpu_chooses_what_the_compiled_loops_do(levels: Tensor, size: int) -> None:
    check(found("cpu", levels, size), found("cuda", levels, size))


@pytest.mark.parametrize("descends", [False, True])
def test_the_kernel_compiles_for_a_gpu_that_is_not_here(descends: bool) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from q2.quant.kernels.triton_columns import round_columns

    signature = dict.fromkeys(("values", "matrix", "edges", "levels", "left"), "*fp32") | {"codes": "*u8"}
    signature |= dict.fromkeys(("count", "size", "start", "stop", "k"), "i32")
    constants = {"SHARED": False, "DESCEND": descends, "ROWS": 4, "COLUMNS": 16, "LEVELS": 4}
    signature = {name: signature.get(name, "constexpr") for name in round_columns.arg_names}
    source = ASTSource(fn=round_columns, signature=signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1, "enable_fp_fusion": True})
    assert "div.rn.f32" in made.asm["ptx"]
