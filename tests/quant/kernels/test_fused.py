"""The kernel's values are those of the plain path, bit by bit; Triton's interpreter runs it where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from q2.quant import fit, quantize_layer
from q2.quant.kernels import fused
from q2.quant.packed.layers import Packed, pack_layer

OPTIONS = [f"{name}-{bits}" for name in ("uaq", "kmeans-c", "kmeans-a") for bits in (1, 3, 4, 7, 8)]
DTYPES = (torch.float16, torch.float32, torch.bfloat16)
INTERPRETED = DTYPES[:2]  # the interpreter cuts bfloat16 off, a GPU rounds it


def check(device: str, dtypes: tuple[torch.dtype, ...] = DTYPES) -> int:
    """Compare both paths for every option, dtype and odd shape on a device; return how many were equal."""
    equal = 0
    for dtype in dtypes:
        for shape in ((5, 7), (3, 11, 3, 3)):
            torch.manual_seed(len(shape))
            layer: torch.nn.Module
            if len(shape) == 2:
                layer = torch.nn.Linear(shape[1], shape[0]).to(dtype)
            else:
                layer = torch.nn.Conv2d(shape[1], shape[0], 3).to(dtype)
            for option in OPTIONS:
                weight = layer.weight
                assert isinstance(weight, torch.Tensor)
                packed = pack_layer(quantize_layer(layer, fit(weight.detach(), option)))
                assert isinstance(packed, Packed)
                expected = packed.weight
                part, held = packed.parts[0], {key: tensor.to(device) for key, tensor in packed.held(0).items()}
                out = torch.empty(shape, dtype=dtype, device=device)
                codes = held.pop("codes")
                fused.decode(part.quantizer.code, codes, held, part.option.bits, out)
                torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=0)
                equal += 1
    return equal


def test_the_interpreted_kernel_gives_the_very_values() -> None:
    code = "from tests.quant.kernels.test_fused import INTERPRETED, check; print(check('cpu', INTERPRETED))"
    root = Path(__file__).parents[3]
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env, cwd=root)
    assert run.stdout.strip() == str(len(OPTIONS) * len(INTERPRETED) * 2), run.stderr


@pytest.mark.gpu
def test_a_gpu_gives_the_very_values() -> None:
    assert check("cuda") == len(OPTIONS) * len(DTYPES) * 2
